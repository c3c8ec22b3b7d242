"""What Prometheus reads: names, bounded labels, and that each query of the Grafana dashboard asks for what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from servers import ROOT, Server, Worker, free_port, wait_for
from visiting import HERE, failed, get, payload, visiting

from trioworkers import App, Client, Context, Job
from trioworkers.engine import told
from trioworkers.errors import ConfigurationError
from trioworkers.observe.metrics import MOST_HOSTS, OTHER, Metrics
from trioworkers.outcome import ACKNOWLEDGE
from trioworkers.web import asgi

EXPORTERS_NAMES = """
    processed_jobs_total failed_jobs_total workers processes busy_workers enqueued_jobs scheduled_jobs retry_jobs dead_jobs
    queue_latency_seconds queue_max_processing_time_seconds queue_enqueued_jobs host_processes queue_workers queue_processes
"""


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


async def test_the_fleet_under_the_exporters_names(redis_url: str, shared_server: Server):
    command = shared_server.command
    command("SADD", "queues", "default", 'odd"\n\\name')
    command("LPUSH", "queue:default", payload(1), payload(2))
    command("ZADD", "dead", 1, failed(1))
    command("SET", "stat:processed", 41)
    info = json.dumps({"hostname": "h", "queues": ["default"], "labels": [], "version": "8.0", "concurrency": 5})
    command("SADD", "processes", "h:1:x")
    command("HSET", "h:1:x", "info", info, "busy", 1, "concurrency", 5, "beat", time.time(), "quiet", "false")
    work = json.dumps({"queue": "default", "payload": payload(3), "run_at": time.time() - 50})
    command("HSET", "h:1:x:work", "t1", work)
    async with visiting(asgi(redis_url), headers=HERE) as visitor:
        answer = await visitor.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    names = {name for name, _ in found}
    assert {f"sidekiq_{name}" for name in EXPORTERS_NAMES.split()} <= names
    assert found["sidekiq_processed_jobs_total", ()] == 41
    assert found["sidekiq_queue_enqueued_jobs", (("name", "default"),)] == 2
    assert found["sidekiq_dead_jobs", ()] == 1
    assert found["sidekiq_busy_workers", ()] == 1
    assert found["sidekiq_queue_latency_seconds", (("name", "default"),)] > 50
    assert found["sidekiq_queue_max_processing_time_seconds", (("name", "default"),)] >= 50
    assert found["sidekiq_host_processes", (("host", "h"), ("quiet", "false"))] == 1
    assert found["sidekiq_queue_enqueued_jobs", (("name", 'odd"\\x0a\\name'),)] == 0


async def test_metrics_want_a_login_where_pages_do(redis_url: str):
    async with visiting(asgi(redis_url, token="x" * 16, read_token="y" * 16), host="jobs.example") as visitor:
        assert (await visitor.get("/metrics")).status_code == 401
        allowed = await visitor.get("/metrics", headers={"authorization": "Bearer " + "y" * 16})
        assert allowed.status_code == 200


async def test_a_workers_own(redis_url: str):
    app = App(redis_url)
    app.queue("q", concurrency=3)
    done = trio.Event()

    @app.handler("q", "Fine")
    async def fine(_: Context) -> None: ...

    @app.handler("q", "Fails", retry=0)
    async def fails(_: Context) -> None:
        raise ValueError("no")

    @app.handler("q", "*")
    async def whatever(_: Context) -> None:
        done.set()

    metrics = Metrics(app)
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        async with Client(redis_url) as client:
            names = ["Fine", "Fine", "Fails", *(f"Stranger{number}" for number in range(20))]
            await client.enqueue(*(Job("q", name, retry=name != "Fails" or 0) for name in names))
        with trio.fail_after(30):
            while worker.stats().settled < len(names):
                await trio.sleep(0.01)
        found = samples(metrics.text().decode())
        assert samples(worker.metrics().decode()).keys() == found.keys()
        worker.stop()
    counts = {
        labels: value for (name, labels), value in found.items() if name == "trioworkers_job_duration_seconds_count"
    }

    def labels(name: str, outcome: str) -> tuple[tuple[str, str], ...]:
        return (("class", name), ("outcome", outcome), ("queue", "q"))

    assert counts == {labels("Fine", "succeeded"): 2, labels("Fails", "buried"): 1, labels(OTHER, "succeeded"): 20}
    assert found["trioworkers_queue_wait_seconds_count", (("queue", "q"),)] == 23
    assert found["trioworkers_settled_total", ()] == 23
    assert 1 <= found["trioworkers_settle_groups_total", ()] <= 23
    assert found["trioworkers_redis_up", ()] == 1
    assert found["trioworkers_slots", (("queue", "q"), ("state", "free"))] == 3


def test_a_worker_whose_app_has_no_metrics_says_how_to_have_them():
    with pytest.raises(ConfigurationError, match="make Metrics"):
        told.metrics([])


def test_labels_are_bounded():
    app = App("redis://127.0.0.1:1/0")
    app.queue("q")
    metrics = Metrics(app)
    for number in range(3 * MOST_HOSTS):
        metrics.called(f"host{number}", "2xx")
    hosts = {
        dict(labels)["host"]
        for (name, labels) in samples(metrics.text().decode())
        if name == "trioworkers_http_calls_total"
    }
    assert len(hosts) == MOST_HOSTS + 1
    assert OTHER in hosts


async def test_an_observer_that_fails_is_nobodys_trouble(redis_url: str, caplog: pytest.LogCaptureFixture):
    class Fails:
        def started(self, *_: Any) -> None: ...

        def called(self, *_: Any) -> None: ...

        def ended(self, _: Any, outcome: Any) -> None:
            assert outcome is ACKNOWLEDGE
            raise KeyError("observer")

    app = App(redis_url)
    app.queue("q")

    @app.handler("q", "Fine")
    async def fine(_: Context) -> None: ...

    app.observers.append(Fails())
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        async with Client(redis_url) as client:
            await client.enqueue(Job("q", "Fine"))
        with trio.fail_after(30):
            while worker.stats().settled < 1:
                await trio.sleep(0.01)
        worker.stop()
    assert "an observer of this worker failed" in caplog.text


def test_every_query_of_the_grafana_dashboard_finds_something(work: Callable[..., Worker], server: Server, jobs: Any):
    """Each name in deploy/grafana.json is exposed by a worker that has run a job and made a call."""
    port = free_port()
    work("w1", "--web", f"127.0.0.1:{port}").wait_started()
    jobs.push(3, "Sleep", 0, enqueued_at=time.time())
    wait_for(lambda: len(jobs.counted("end")) == 3, "jobs run")
    text = get(f"http://127.0.0.1:{port}/metrics")
    of_calls = {"http_calls_total": "counter", "http_host_calls": "gauge", "http_host_paused": "gauge"}  # see below
    found = {name for name, _ in samples(text)} | {f"trioworkers_{name}" for name in of_calls}
    found |= {"trioworkers_shard_up"}  # of several Redises: tests/web/test_web_shards.py
    assert all(f"# TYPE trioworkers_{name} {kind}" in text for name, kind in of_calls.items())
    assert "# TYPE trioworkers_event_loop_lag_seconds gauge" in text
    dashboard = json.loads((ROOT / "deploy/grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 20
    everywhere = {"job", "instance", "shard"}  # of Prometheus itself; of several Redises
    for query in queries:
        names = re.findall(r"\b(?:sidekiq|trioworkers)_\w+", query)
        assert names, query
        assert set(names) <= found, query
        labels = {name.strip() for each in re.findall(r"by \(([^)]*)\)", query) for name in each.split(",")}
        known = {label for family in text_string_to_metric_families(text) for s in family.samples for label in s.labels}
        assert labels <= known | everywhere | {"host", "outcome"}, query
    for target in (target for panel in dashboard["panels"] for target in panel["targets"]):
        kept = re.match(r"(?:\w+\([0-9., ]*)?\w+ by \(([^)]*)\)|", target["expr"])
        legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert kept
        assert legend <= (set(re.split(r", ?", kept[1])) if kept[1] else {"instance"}), target
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$([a-z]+)", " ".join(queries))) <= variables


def test_the_grafana_dashboard_is_what_its_program_draws():
    drawn = subprocess.run(
        [sys.executable, "deploy/draw_grafana.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert drawn.stdout == (ROOT / "deploy/grafana.json").read_text()
