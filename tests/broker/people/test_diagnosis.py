"""The doctor's eye on Redis: each fault is made for real, found, and nothing is changed by looking."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import Server

from trioworkers import Unavailable, broker
from trioworkers.broker.checks import Finding
from trioworkers.broker.people import diagnosis
from trioworkers.broker.people.diagnosis import diagnose
from trioworkers.broker.people.fleet_control import FleetControl
from trioworkers.broker.people.inspection import Inspector
from trioworkers.broker.people.permissions import SAMPLES
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.wire.keys import Keys


async def examined(url: str) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    async with connect(url, Link(url)) as connection:
        async for finding in diagnose(connection, Keys()):
            found.setdefault(finding.check, []).append(finding)
    return found


async def the(check: str, url: str) -> Finding:
    (finding,) = (await examined(url))[check]
    return finding


def process(server: Server, identity: str, *queues: str, labels: tuple[str, ...] = ()) -> None:
    info = {"queues": queues, "labels": labels, "identity": identity, "concurrency": 5}
    server.command("SADD", "processes", identity)
    server.command("HSET", identity, "info", json.dumps(info), "beat", time.time(), "busy", 0, "quiet", "false")


async def test_sound_redis_has_no_findings_and_is_not_changed(server: Server):
    server.command("SET", "mine", "1")
    found = await examined(server.url)
    assert {finding.level for findings in found.values() for finding in findings} == {"ok"}
    assert server.command("KEYS", "*") == ["mine"]


@pytest.mark.parametrize(
    ("settings", "check", "level", "words"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "eviction", "note", "may evict"),
        ({"maxmemory-policy": "allkeys-lru", "maxmemory": "100mb"}, "eviction", "problem", "may evict"),
        ({"maxmemory": "1mb"}, "eviction", "warning", "full"),
        ({"appendonly": "no"}, "persistence", "warning", "all jobs are lost"),
        ({"appendonly": "no", "save": "60 1"}, "persistence", "note", "snapshots only"),
    ],
)
async def test_how_redis_is_configured(server: Server, settings: dict[str, str], check: str, level: str, words: str):
    for name, value in settings.items():
        server.command("CONFIG", "SET", name, value)
    finding = await the(check, server.url)
    assert (finding.level, words in finding.text) == (level, True)
    assert finding.advice


async def test_replica_takes_no_writes(server: Server):
    server.command("REPLICAOF", "127.0.0.1", "1")
    assert (await the("role", server.url)).level == "problem"


async def test_clocks_that_differ(server: Server, monkeypatch: pytest.MonkeyPatch):
    ahead = time.time() + 60
    monkeypatch.setattr(diagnosis.time, "time", lambda: ahead)
    finding = await the("clock", server.url)
    assert finding.level == "warning"
    assert re.search(r"[56]\d\.\d+ s behind", finding.text)


async def test_queue_that_nobody_consumes(server: Server):
    server.command("SADD", "queues", "left", "served")
    for queue in ("left", "served"):
        server.command("LPUSH", f"queue:{queue}", json.dumps({"class": "A", "args": [], "jid": "a"}))
    process(server, "host:1:a", "served")
    finding = await the("queues", server.url)
    assert (finding.level, "1 job waits in left" in finding.text) == ("warning", True)


async def test_paused_queue_that_has_jobs_and_paused_class(server: Server):
    server.command("SADD", "queues", "track")
    server.command("LPUSH", "queue:track", json.dumps({"class": "A", "args": [], "jid": "a"}))
    async with connect(server.url, Link(server.url)) as connection:
        await FleetControl(connection, Keys()).pause(["track"], ["Mail"])
    queue, job_class = (await examined(server.url))["paused"]
    assert (queue.level, queue.text) == ("warning", "1 job waits in track, which is paused")
    assert queue.advice == "trioworkers resume track"
    assert (job_class.level, job_class.advice) == ("warning", "trioworkers resume --class Mail")


async def test_two_kinds_of_worker_on_one_queue(server: Server):
    process(server, "host:1:a", "both", "a", labels=("trioworkers",))
    process(server, "host:2:b", "both", "b")
    finding = await the("shared queues", server.url)
    assert finding.level == "problem"
    assert finding.text.startswith("both is consumed")


GO_FIELDS = ("worker_heartbeats", "[]", "manager_priority", "0", "active_manager", "0")


def go_workers2(server: Server, identity: str, *queues: str, ago_s: float = 0.0) -> None:
    info = json.dumps({"queues": queues, "Pid": 7, "identity": identity, "concurrency": 5})
    server.command("SADD", "processes", identity)
    server.command("HSET", identity, "info", info, "beat", int(time.time() - ago_s), "busy", 0, "quiet", 0, *GO_FIELDS)


async def test_records_that_go_workers2_cannot_read(server: Server):
    go_workers2(server, "web1:7:aa", "theirs")
    process(server, "host:1:a", "mine", labels=("trioworkers",))
    server.command("HSET", "host:1:a", *GO_FIELDS)
    assert (await the("heartbeats", server.url)).level == "ok"
    process(server, "host:2:b", "other", labels=("trioworkers",))
    finding = await the("heartbeats", server.url)
    assert (finding.level, "go-workers2 (web1:7:aa) can't read the records of host:2:b:" in finding.text) == (
        "problem",
        True,
    )
    assert "a queue of dialect goworkers" in finding.advice
    process(server, "host:3:c", "third")  # Ruby's Sidekiq, which has no such queue
    finding = await the("heartbeats", server.url)
    assert "host:2:b, host:3:c" in finding.text
    assert finding.advice == "give it a database or a namespace of its own"


async def test_go_workers2_that_left_its_record_consumes_nothing(server: Server):
    server.command("SADD", "queues", "theirs")
    server.command("LPUSH", "queue:theirs", "{}")
    go_workers2(server, "web1:7:aa", "theirs", ago_s=30.0)
    assert (await the("queues", server.url)).level == "ok"
    go_workers2(server, "web1:7:aa", "theirs", ago_s=90.0)
    found = await examined(server.url)
    assert [finding.text for finding in found["queues"]] == ["1 job waits in theirs, and nobody consumes it"]
    (finding,) = found["heartbeats"]
    assert (finding.level, finding.text[:40]) == ("warning", "web1:7:aa (go-workers2) last gave a sign")


async def test_jobs_that_another_program_put_where_a_dead_worker_had_its_own(server: Server):
    key = "queue:q:1:inprogress"
    server.command("HSET", "tw:inprogress", key, "1 q")
    server.command("LPUSH", key, "{}", "{}")
    server.command("SADD", "tw:drained:1", key)
    server.command("EXPIRE", "tw:drained:1", 7200)
    finding = await the("orphans", server.url)
    assert finding.level == "note"
    assert finding.text.startswith(f"2 jobs in {key}, put there by another program")
    server.command("EXPIRE", "tw:drained:1", 3000)  # nobody has done one of them for an hour: they are ours
    assert (await the("orphans", server.url)).level == "warning"


async def test_jobs_in_the_lists_of_the_dead(server: Server):
    server.command("HSET", "tw:inprogress", "queue:q:gone:inprogress", "gone q", "queue:q:alive:inprogress", "alive q")
    server.command("LPUSH", "queue:q:gone:inprogress", "{}", "{}")
    server.command("LPUSH", "queue:q:alive:inprogress", "{}")
    server.command("SET", "tw:lease:alive", "somebody")
    finding = await the("orphans", server.url)
    assert (finding.level, finding.text) == ("warning", "2 jobs in the lists of workers that are gone")
    process(server, "host:1:a", "q", labels=("trioworkers",))
    assert (await the("orphans", server.url)).level == "note"


def test_every_command_of_the_scripts_is_tried():
    texts = [path.read_text() for path in Path(broker.__file__).parent.rglob("*.lua")]
    used = {name.upper() for text in texts for name in re.findall(r"redis\.p?call\(\s*['\"](\w+)['\"]", text)}
    used.remove("MEMORY")  # where it is not allowed large payloads are fetched as others are
    assert used <= SAMPLES.keys(), "add them to broker/people/permissions.py, with arguments that do no harm"


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (("~*", "+@all", "-lmove"), ["LMOVE"]),
        (("~*", "+@all", "-blmove", "-client"), ["CLIENT ID", "CLIENT UNBLOCK", "BLMOVE"]),
        (("~*", "+@all", "-eval"), ["EVAL"]),
        (
            ("~queue*", "~tw:*", "+@all"),
            ["keys like schedule", "keys like retry", "keys like paused", "keys like stat:*"],
        ),
    ],
)
async def test_what_the_user_may_not_do_is_named(server: Server, rules: tuple[str, ...], missing: list[str]):
    server.command("ACL", "SETUSER", "worker", "on", ">pw", *rules)
    finding = await the("permissions", server.url.replace("//", "//worker:pw@"))
    assert finding.level == "problem"
    for name in missing:
        assert re.search(rf"(: |, ){re.escape(name)}(,|$)", finding.text), finding.text


async def test_rules_from_the_documentation_are_enough(server: Server):
    text = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    (rules,) = re.findall(r"ACL SETUSER worker on >PASSWORD (.+)", text)
    server.command("ACL", "SETUSER", "worker", "on", ">pw", *rules.split())
    found = await examined(server.url.replace("//", "//worker:pw@"))
    assert {finding.level for findings in found.values() for finding in findings} == {"ok"}


async def test_user_without_the_right_to_look_is_told_what_could_not_be_checked(server: Server):
    server.command("ACL", "SETUSER", "worker", "on", ">pw", "~*", "+@all", "-info")
    found = await examined(server.url.replace("//", "//worker:pw@"))
    assert "could not be checked" in found["server"][0].text
    assert found["queues"][0].level == "ok"


async def test_what_could_not_be_checked_for_a_key_is_no_question_of_rights(server: Server):
    server.command("SET", "processes", "garbage")
    found = await examined(server.url)
    assert "processes is a string" in found["keys"][0].text
    (finding,) = found["heartbeats"]
    assert "could not be checked" in finding.text
    assert finding.advice == "see `keys` above: a key that it looks at is of the wrong type"


async def test_without_redis_it_says_so(server: Server, caplog: Callable[..., object]):
    server.kill()
    with pytest.raises(Unavailable):
        await examined(server.url)


async def test_key_that_somebody_has_written_over_is_named_whatever_it_is_for(server: Server):
    server.command("SADD", "queues", "q", "broken")
    for key in ("queue:broken", "dead", "processes"):
        server.command("SET", key, "no such thing")
    found = await examined(server.url)
    said = " ".join(finding.text for finding in found["keys"])
    assert {finding.level for finding in found["keys"]} == {"problem"}
    for words in ("queue:broken is a string, and should be a list", "dead is a string", "processes is a string"):
        assert words in said
    assert found["permissions"][0].level == "ok"
    server.command("DEL", "processes", "queues")
    server.command("SET", "queues", "no set")
    assert any("queues is a string" in finding.text for finding in (await examined(server.url))["keys"])


async def test_job_is_found_though_other_places_are_none(server: Server):
    server.command("SADD", "queues", "a", "q")
    server.command("SET", "queue:a", "no list")
    server.command("SET", "dead", "no set")
    server.command("LPUSH", "queue:q", '{"class":"A","args":[],"jid":"abc","queue":"q"}')
    async with connect(server.url, Link(server.url)) as connection:
        inspector = Inspector(connection, Keys())
        assert [entry.place async for entry in inspector.find("abc")] == ["queue"]
        assert [entry async for entry in inspector.find("other")] == []


async def test_processes_are_shown_though_the_records_of_others_are_none(server: Server):
    server.command("SADD", "processes", "a:1:x", "b:2:y", "c:3:z")
    server.command("SET", "a:1:x", "no hash")
    for identity in ("b:2:y", "c:3:z"):
        server.command("HSET", identity, "info", json.dumps({"hostname": identity[0], "queues": ["q"]}), "beat", "1")
    for key in ("b:2:y:work", "c:3:z:workers"):
        server.command("RPUSH", key, "no hash")
    running = json.dumps({"queue": "q", "payload": '{"class":"A","args":[],"jid":"abc"}', "run_at": 1})
    server.command("HSET", "b:2:y:workers", "1", running)
    async with connect(server.url, Link(server.url)) as connection:
        inspector = Inspector(connection, Keys())
        shown = await inspector.processes()
        assert [process.identity for process in shown] == ["b:2:y", "c:3:z"]
        assert [[job.entry.jid for job in await inspector.running(process, 10)] for process in shown] == [["abc"], []]
    said = [finding.text.partition(":s")[0] for finding in (await examined(server.url))["keys"]]
    assert [text.partition(", and")[0] for text in said] == [
        "a:1:x is a string",
        "b:2:y:work is a list",
        "c:3:z:workers is a list",
    ]
