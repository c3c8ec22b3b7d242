"""Every page over what a shop on Ruby leaves in its Redis: a real Sidekiq with Rails' jobs, failures and a running job; and, as newer versions and
Sidekiq's own neighbours write them, records that none of ours writes."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import Server, wait_for
from shop import ruby_has
from visiting import HERE, PAGES, harmless_text, visiting

from trioworkers.web import asgi

FOLDER = Path(__file__).parent

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not ruby_has("sidekiq", "active_job"),
        reason="Ruby's ActiveJob is missing (Debian: ruby-activejob, ruby-sidekiq)",
    ),
]

ITERABLE = "9f91e64313b09ff817845e21"
CAPSULES = {
    "default": {"concurrency": 10, "mode": "weighted", "weights": {"critical": 3, "default": 1}},
    "single": {"concurrency": 1, "mode": "strict", "weights": {"unsafe": 0}},
}


def write_what_newer_versions_write(server: Server) -> None:
    """Formats of Sidekiq 7 and 8, of Pro, and of gems that people have beside it."""
    now_s = time.time()
    identity = "web1:4242:a1b2c3d4e5f6"
    info = {"hostname": "web1", "started_at": now_s - 9000.25, "pid": 4242, "tag": "shop", "capsules": CAPSULES}
    info |= {"queues": ["critical", "default", "unsafe"], "weights": [{"critical": 3, "default": 1}, {"unsafe": 0}]}
    info |= {"labels": ["reliable"], "identity": identity, "version": "8.1.7", "embedded": False}
    times = {"created_at": int((now_s - 90) * 1000), "enqueued_at": int((now_s - 80) * 1000)}
    iterable = {"retry": True, "queue": "critical", "class": "BackfillJob", "args": ["2023-11"], "jid": ITERABLE}
    iterable |= times
    wrapped = {"retry": True, "queue": "default", "class": "Sidekiq::ActiveJob::Wrapper", "wrapped": "ExportJob"}
    wrapped |= {"jid": "4ebf34de7bde848c52130ab8", **times}
    inner = {"job_class": "ExportJob", "job_id": "9ed89dfb-43c1-4f2f-93d9-0f8aef88f44f", "queue_name": "default"}
    inner |= {
        "arguments": [{"_aj_globalid": "gid://shop/User/7"}],
        "executions": 1,
        "exception_executions": {"[ArgumentError]": 1},
    }
    wrapped["args"] = [inner]
    failed = {"retry": 10, "queue": "slow", "retry_queue": "slow", "backtrace": 2, "class": "HardJob", "args": [1]}
    failed |= {"jid": "c0ffee00c0ffee00c0ffee00", "error_message": "timeout: é", "error_class": "Net::ReadTimeout"}
    failed |= {"failed_at": int((now_s - 70) * 1000), "retried_at": int((now_s - 10) * 1000), "retry_count": 2, **times}
    failed["error_backtrace"] = (
        "eJyLVkosKNDPyk8q1k/Kz8+NB7L0ipKszK0y8xQSClKL0vKLctWVdJRyMpP0i0rz8lKLQNLGYOnkxJwcdaVYABxxFuo="
    )
    day, minute = time.strftime("%y%m%d", time.gmtime(now_s)), time.strftime("%M", time.gmtime(now_s))
    hour = int(time.strftime("%H", time.gmtime(now_s)))
    with server.session() as command:
        command("SADD", "processes", identity)
        command("HSET", identity, "info", json.dumps(info), "busy", 1, "beat", now_s, "quiet", "false", "rss", 250_000)
        command("HSET", identity, "concurrency", 11, "rtt_us", 300)
        running = {"queue": "critical", "payload": json.dumps(iterable), "run_at": int(now_s - 77)}
        command("HSET", f"{identity}:work", "ow1f", json.dumps(running))
        command("HSET", f"it-{iterable['jid']}", "ex", 2, "c", '{"id":4711,"page":3}', "rt", "41.026268986")
        command("ZADD", "profiles", now_s + 86_400, f"token-{iterable['jid']}")
        command(
            "HSET", f"token-{iterable['jid']}", "type", "BackfillJob", "jid", iterable["jid"], "data", b"\x1f\x8b\x08"
        )
        command("SADD", "queues", "critical", "default", "unsafe", "slow")
        command("LPUSH", "queue:default", json.dumps(wrapped), '{ "class" : "HardJob" , "args" : [ "\\u00e9" ] }')
        command("ZADD", "retry", now_s + 60, json.dumps(failed))
        command("ZADD", "dead", now_s - 1, b'{"class":"HardJob","args":[1', now_s - 2, b'{"c":"\xff"}')
        command("HSET", f"j|{day}|{hour}:{minute}", "BackfillJob|p", 30, "BackfillJob|f", 4, "BackfillJob|ms", 90_000)
        command(
            "HSET", f"j|{day}|{hour}:{minute[0]}", "BackfillJob|p", 30, "BackfillJob|f", 4, "BackfillJob|ms", 90_000
        )
        command("HSET", f"j|20{day}|{hour}:{int(minute)}", "HardJob|p", 3, "HardJob|f", 3)
        command("BITFIELD", f"h|BackfillJob-1-{hour}:{int(minute)}", "INCRBY", "u16", "#3", 5)
        command("HSET", f"20{day}-marks", "2026-11-23T16:28:00Z", "deploy <b>")
        command("SET", "dear-leader", identity)
        command("SADD", "paused", "unsafe")
        command("SADD", "cron_jobs", "cron_job:nightly")  # sidekiq-cron
        command(
            "HSET", "cron_job:nightly", "name", "nightly", "klass", "DeepJob", "cron", "0 3 * * *", "status", "enabled"
        )
        command("HSET", "schedules", "weekly", '{"class":"OnceJob","cron":"0 4 * * 1"}')  # sidekiq-scheduler
        command("ZADD", "uniquejobs:digests", now_s, "uniquejobs:0b0d")
        command("HSET", "b-VWYf44jVYsZARw", "pending", 3, "total", 9, "failures", 1)  # Pro
        command("SADD", "b-VWYf44jVYsZARw-jids", "777777777777777777777777")
        command("LPUSH", f"queue:sq|{identity}|default", json.dumps(wrapped))  # super_fetch
        command("HSET", "lmtr-c-erp", "held", 3)


@contextmanager
def running_sidekiq(server: Server, log: Path) -> Iterator[None]:
    environment = {**os.environ, "REDIS_URL": server.url}
    fill = ["ruby", "-r", str(FOLDER / "everything.rb"), "-e", "fill"]
    subprocess.run(fill, env=environment, check=True, timeout=120)
    command = ["sidekiq", "-r", str(FOLDER / "everything.rb"), "-q", "low,3", "-q", "mailers", "-c", "2", "-t", "1"]
    with log.open("wb") as sink, subprocess.Popen(command, env=environment, stdout=sink, stderr=sink) as sidekiq:
        try:
            yield
        finally:
            sidekiq.send_signal(signal.SIGKILL)


def jids(server: Server) -> dict[str, str]:
    """By class, one of each that lies in a set."""
    found = {}
    for key in ("retry", "dead", "schedule"):
        members: Any = server.command("ZRANGE", key, 0, -1)
        for member in members:
            try:
                job = json.loads(member)
                found[job.get("wrapped", job["class"])] = job["jid"]
            except (ValueError, KeyError):  # not a job
                pass
    return found


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


async def test_every_page_shows_what_a_shop_on_ruby_has(server: Server, tmp_path: Path):
    log = tmp_path / "sidekiq.log"
    with running_sidekiq(server, log):
        wait_for(lambda: server.command("ZCARD", "retry") == 2, lambda: f"two fail: {log.read_text()}")
        wait_for(lambda: server.command("ZCARD", "dead") == 1, "one dies")
        wait_for(lambda: server.command("SCARD", "processes") == 1, "it registers")
        write_what_newer_versions_write(server)
        found = jids(server)
        async with visiting(asgi(server.url), headers=HERE) as visitor:
            said: dict[str, str] = {}
            of_jobs = {name: f"/job?jid={jid}" for name, jid in found.items()}
            more = ("/queue?name=default", "/queue?name=bulk", "/queue?name=unsafe", f"/job?jid={ITERABLE}")
            for path in (*PAGES, *more, *of_jobs.values()):
                answer = await visitor.get(path)
                assert answer.status_code == 200, (path, answer.text)
                harmless_text(answer.text)
                said[path] = words(answer.text)
                assert "our own mistake" not in said[path], path
            pictures = [(await visitor.get(f"/rates.svg?span={span}")).text for span in ("hour", "day", "three days")]

    assert "62 jobs in bulk, and nobody fetches from there" in said["/"]
    assert all("4 failed" in picture for picture in pictures), "as newer versions count"
    assert "of 13 slots" in said["/busy"]
    assert "BackfillJob critical web1:4242:a1b2c3d4e5f6" in said["/busy"]
    assert re.search(r"unsafe paused 0 \S+ [\d.]+ 1 1 Resume", said["/queues"]), "slots are those of its capsule"
    assert "sq|" not in said["/queues"], "Pro's own list is no queue"
    assert "InvoiceJob low" in said["/retries"], "as Rails calls it"
    assert "DeepJob billing über" in said["/retries"]
    assert "2 (unreadable)" in said["/dead"]
    assert "sidekiq 8.1.7" in said["/processes"]
    assert "[1]" in said["/queue?name=bulk"]
    deep, rails, once = (said[of_jobs[name]] for name in ("DeepJob", "InvoiceJob", "OnceJob"))
    assert "everything.rb:" in deep
    assert "disk of host <b>db-1</b> is full: \\x1b[31m" in deep
    assert "Rails' job id" in rails
    assert "gid://shop/User/7" in rails
    assert "RuntimeError never again" in once
    assert "boom_job.rb:7" in said[of_jobs["HardJob"]], "a backtrace as 8 packs it"
    iterable = said[f"/job?jid={ITERABLE}"]
    assert 'each_iteration iteration up to {"id":4711,"page":3}' in iterable
    assert "Only workers of ours tell where their jobs are" in iterable
    assert "Cancel" not in iterable, "nobody can from here"
