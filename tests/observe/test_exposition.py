"""What strangers can do to a scrape: names with anything in them, as many as they like. It stays whole, bounded, and of one meaning."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import trio
from prometheus_client import openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from servers import Server
from visiting import HERE, visiting

from trioworkers import App, Job, Shard
from trioworkers.broker.people.contents import QueueState
from trioworkers.broker.people.inspection import Totals
from trioworkers.observe.fleet_metrics import MOST_QUEUES, fleet_metrics
from trioworkers.observe.metrics import LABEL_CHARACTERS, MOST_CLASSES, OTHER, Metrics, label, render
from trioworkers.outcome import ACKNOWLEDGE
from trioworkers.web import application, asgi, metrics, site

ODD = (
    b"<script>alert(1)</script>",
    b'quo"te\\and\\n',
    b"new\nline\r\n# TYPE forged counter\nforged 1",
    b'{a="b"} 1 # {trace_id="x"}',
    "\u202eright to left\u2066 \u200b zero".encode(),
    "naïve 語 😀".encode(),
    b"\xff\xfe not UTF-8 \xc3(",
    b"\x00nul\x1b[31m",
    b"look alike\n",
    b"look alike\\x0a",
    b"x" * 300 + b"1",
    b"x" * 300 + b"2",
    b" ",
)


def series(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def check_by_its_own_tool(text: bytes) -> None:
    """As Prometheus itself reads it, where that is installed; its lint finds fault with the exporter's names, which aren't ours to choose."""
    if shutil.which("promtool"):
        told = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
        assert told.returncode in (0, 3), told.stderr
        assert not [line for line in told.stderr.decode().splitlines() if not line.startswith("sidekiq_")]


async def test_names_with_anything_in_them_are_labels_of_one_line(redis_url: str):
    with redis.Redis.from_url(redis_url) as connection:
        connection.sadd("queues", *ODD)
        for number, name in enumerate(ODD):
            connection.lpush(b"queue:" + name, *[b"{}"] * (number + 1))
        info = {"hostname": "h", "queues": ["q"], "labels": [], "version": "8", "concurrency": 5}
        for name in ODD:
            identity = name.replace(b":", b"") + b":1:x"
            connection.sadd("processes", identity)
            connection.hset(
                identity, mapping={"info": json.dumps(info), "busy": 1, "beat": time.time(), "quiet": "false"}
            )
    async with visiting(asgi(redis_url), headers=HERE) as visitor:
        text = (await visitor.get("/metrics")).content
    found = series(text.decode())
    sizes = {
        dict(labels)["name"]: value for (name, labels), value in found.items() if name == "sidekiq_queue_enqueued_jobs"
    }
    assert len(sizes) >= len(ODD) - 1  # two look alike
    assert {"<script>alert(1)</script>": 1, 'quo"te\\and\\n': 2}.items() <= sizes.items()
    assert next(value for name, value in sizes.items() if "right to left" in name) == 5
    assert sorted(value for name, value in sizes.items() if name.startswith("xxx")) == [11, 12]
    assert not any(name.startswith("forged") for name, _ in found)
    assert len({labels for name, labels in found if name == "sidekiq_host_processes"}) >= len(ODD) - 2
    check_by_its_own_tool(text)


@pytest.mark.parametrize("text", ["", "q", "\ud800", "a" * LABEL_CHARACTERS, "\n" * LABEL_CHARACTERS, "😀" * 10_000])
def test_a_label_is_short_and_can_be_said_in_utf_8(text: str):
    assert len(label(text)) <= LABEL_CHARACTERS
    assert label(text).encode().decode().isprintable()
    assert (label(text) == text) == (text.isprintable() and len(text) <= LABEL_CHARACTERS)


def test_of_strangers_queues_so_many_are_told_of_and_all_that_somebody_serves():
    queues = [QueueState(f"a{number}", 2, None, paused=False) for number in range(10 * MOST_QUEUES)]
    queues.append(QueueState("served", 7, None, paused=False))
    process: Any = SimpleNamespace(identity="h:1:x", quiet=False, concurrency=5, busy=0, queues={"served": 5})
    totals = Totals(0, 0, 0, 0, 0, dict.fromkeys(("scheduled", "retry", "dead", "parked"), 0))

    def told(of: Iterable[QueueState]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return series(render(fleet_metrics(totals, list(of), [process], {})).decode())

    found = told(queues)
    assert len([name for name, _ in found if name == "sidekiq_queue_enqueued_jobs"]) == MOST_QUEUES
    assert found["sidekiq_queue_enqueued_jobs", (("name", "served"),)] == 7
    assert found["trioworkers_known_queues", ()] == len(queues)
    assert told(reversed(queues)).keys() == found.keys()  # Redis says them in any order


class Working:
    """What `Metrics` asks a worker for."""

    hosts = ()
    settle_groups = reclaimed = 0

    def __init__(self, app: App) -> None:
        self._app = app

    def stats(self) -> Any:
        zero = dict.fromkeys(self._app.queues, 0)
        return SimpleNamespace(running=zero, free=zero, settled=0, quiet=False)


def run_one(metrics: Metrics, queue: str, name: str) -> None:
    job = SimpleNamespace(job_class=name, enqueued_at_s=time.time())
    metrics.ended(SimpleNamespace(queue=queue, job=job, started_at=0.0), ACKNOWLEDGE)


def begin(metrics: Metrics, app: App) -> None:
    metrics.started(Working(app), SimpleNamespace(outages=0, is_up=True))


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an event loop."""
    monkeypatch.setattr(trio, "current_time", lambda: 1.0)
    monkeypatch.setattr(trio.lowlevel, "current_trio_token", lambda: None)


async def nothing() -> None: ...


def classes_of(text: bytes) -> set[str]:
    counts = [labels for name, labels in series(text.decode()) if name == "trioworkers_job_duration_seconds_count"]
    return {dict(labels)["class"] for labels in counts}


@pytest.mark.usefixtures("at_rest")
def test_ten_thousand_classes_of_strangers_are_one_series():
    app = App("redis://127.0.0.1:1/0")
    metrics = Metrics(app)
    app.handler("q", "Known")(nothing)  # after it was made: it is known all the same
    app.handler("q", "*")(nothing)
    begin(metrics, app)
    run_one(metrics, "q", "Known")
    run_one(metrics, "q", "Stranger")
    lines = metrics.text().count(b"\n")
    for number in range(10_000):
        run_one(metrics, "q", f"Stranger{number}" * 10)
        run_one(metrics, f"queue{number}", "Known")
    assert metrics.text().count(b"\n") <= lines + 100  # the queue `(other)`
    assert classes_of(metrics.text()) == {"Known", OTHER}


@pytest.mark.usefixtures("at_rest")
def test_of_an_apps_own_classes_the_first_that_run_have_figures_of_their_own():
    app = App("redis://127.0.0.1:1/0")
    for number in range(MOST_CLASSES + 50):
        app.handler("q", f"Class{number}")(nothing)
    metrics = Metrics(app)
    begin(metrics, app)
    last = f"Class{MOST_CLASSES + 49}"
    run_one(metrics, "q", last)
    for number in range(MOST_CLASSES + 50):
        run_one(metrics, "q", f"Class{number}")
    found = classes_of(metrics.text())
    assert len(found) == MOST_CLASSES + 1
    assert {last, "Class0", OTHER} <= found
    assert f"Class{MOST_CLASSES + 10}" not in found


@pytest.mark.usefixtures("at_rest")
def test_open_metrics_strict_parser_takes_it_too():
    app = App("redis://127.0.0.1:1/0")
    app.handler("q", 'Fine\n"{é}\\')(nothing)
    metrics = Metrics(app)
    begin(metrics, app)
    run_one(metrics, "q", 'Fine\n"{é}\\')
    metrics.called("h" * 10_000, "2xx")
    text = openmetrics.exposition.generate_latest(metrics.registry).decode()
    families = {family.name: family for family in openmetrics_families(text)}
    labels = families["trioworkers_job_duration_seconds"].samples[0].labels
    assert labels["class"] == 'Fine\\x0a"{é}\\'
    assert len(families["trioworkers_http_calls"].samples[0].labels["host"]) == LABEL_CHARACTERS
    check_by_its_own_tool(metrics.text())


async def test_a_worker_over_several_redises_tells_all_of_them_together(redis_url: str):
    app = App(shards={name: Shard(redis_url, namespace=f"{{{name}}}") for name in "ab"})
    app.queue("q", shards=["a", "b"], concurrency=3)
    app.handler("q", "Fine")(nothing)
    metrics = Metrics(app)
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        async with app.client() as client:
            for number in range(20):
                await client.enqueue(Job("q", "Fine", jid=f"{number:024x}"))
        with trio.fail_after(60):
            while worker.stats().settled < 20:
                await trio.sleep(0.01)
        found = series(worker.metrics().decode())
        assert metrics.text()
        worker.stop()
    assert found["trioworkers_settled_total", ()] == 20
    assert (
        0 <= found["trioworkers_slots", (("queue", "q"), ("state", "free"))] <= 3
    )  # what waits for jobs of a shard holds one
    assert found["trioworkers_redis_up", ()] == 1
    ran = (("class", "Fine"), ("outcome", "succeeded"), ("queue", "q"))
    assert found["trioworkers_job_duration_seconds_count", ran] == 20


async def test_empty_queues_are_a_command_each(redis_url: str, shared_server: Server):
    def calls(name: str) -> int:
        found = re.search(rf"cmdstat_{name}:calls=(\d+)", str(shared_server.command("INFO", "commandstats")))
        return 0 if found is None else int(found[1])

    shared_server.command("SADD", "queues", *(f"empty{number}" for number in range(100)))
    before = calls("llen"), calls("lrange")
    async with visiting(asgi(redis_url), headers=HERE) as visitor:
        assert 'name="empty99"' in (await visitor.get("/metrics")).text
    assert calls("llen") - before[0] >= 100
    assert calls("lrange") - before[1] < 20


async def test_many_scrapes_at_once_are_one(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    drawn = 0

    async def text(*of: Any) -> bytes:
        nonlocal drawn
        drawn += 1
        return await metrics.metrics_text(*of)

    monkeypatch.setattr(application, "metrics_text", text)
    monkeypatch.setattr(site.Site.fresh, "__defaults__", (60.0,))
    async with visiting(asgi(redis_url), headers=HERE) as visitor, trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(visitor.get, "/metrics")
    assert drawn == 1
