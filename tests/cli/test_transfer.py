"""Export and import, against a real Redis: to the byte, in order, and only once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from acting import act, fill, members, refused
from click.testing import CliRunner
from servers import Server

from trioworkers import Job
from trioworkers.cli.commands import app
from trioworkers.sync import Client
from trioworkers.wire.lock import Lock


def test_dead_set_is_kept_and_put_back_to_the_byte(redis_url: str, shared_server: Server, tmp_path: Path):
    odd = [b'\xff\x00"\\', "é\u2028 1.10 \\u00e9".encode(), b"", b'{"class":"A","args":[12345678901234567890.10]}\n']
    for n, one in enumerate(odd):
        shared_server.command("ZADD", "dead", 1.6e9 + n / 7, one)
    payloads = fill(shared_server, "dead", 1200)
    before = shared_server.command("ZRANGE", "dead", 0, -1, "WITHSCORES")
    assert "No such file" in refused(redis_url, "export", "dead", "-o", str(tmp_path / "nowhere/dead.jsonl"))
    file = tmp_path / "dead.jsonl"
    assert act(redis_url, "export", "dead", "-o", str(file)).stderr == "1,204 jobs of the dead set written\n"
    act(redis_url, "delete", "--in", "dead", "--where", "class=A", "--yes")
    assert act(redis_url, "import", str(file)).stdout == "1,201 jobs imported, 3 there already\n"
    assert shared_server.command("ZRANGE", "dead", 0, -1, "WITHSCORES") == before
    assert act(redis_url, "import", str(file)).stdout == "0 jobs imported, 1,204 there already\n"
    assert len(payloads) == 1200
    assert not list(tmp_path.glob("*.part"))


def test_queue_is_put_back_in_order_and_only_once(redis_url: str, shared_server: Server, tmp_path: Path):
    payloads = fill(shared_server, "queue:q", 1300)
    shared_server.command("SADD", "queues", "q")
    done = CliRunner().invoke(app, ["export", "queue:q", "--redis", redis_url])
    act(redis_url, "purge", "q", "--yes")
    lines = done.stdout_bytes.splitlines(keepends=True)
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b"".join(lines[:700]) + b'{"in":"queue"}\n' + b"".join(lines[701:]))
    assert "line 701: not a line of an export" in refused(redis_url, "import", str(broken))
    for _ in range(2):
        done = CliRunner().invoke(app, ["import", "-", "--redis", redis_url], input=b"".join(lines))
        assert done.exit_code == 0
        assert members(shared_server, "queue:q") == payloads


def jid_and_lock(payload: object) -> tuple[str, str]:
    fields = json.loads(str(payload))
    return fields["jid"], fields["tw_lock"]


def unique(number: int, key: str, on_conflict: str = "skip") -> Job:
    return Job("reports", "A", [number], jid=f"job-{number:08}", lock=Lock(key, "done", on_conflict))  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["queue:reports", "scheduled", "retry"])
def test_imported_job_takes_its_lock_again(redis_url: str, shared_server: Server, tmp_path: Path, place: str):
    file = str(tmp_path / "jobs.jsonl")
    with Client(redis_url) as client:
        client.schedule(600, unique(1, "A:1"), unique(2, "A:2"))
        if place == "queue:reports":
            act(redis_url, "run-now", "--all", "--yes")
        if place == "retry":
            shared_server.command("RENAME", "schedule", "retry")
        act(redis_url, "export", place, "-o", file)
        act(redis_url, "purge", "reports", "--yes") if ":" in place else act(
            redis_url, "delete", "--all", "--in", place, "--yes"
        )
        assert shared_server.command("EXISTS", "tw:unique") == 0
        [other] = client.enqueue(unique(3, "A:2"))
        done = act(redis_url, "import", file)
        assert done.stdout == "2 jobs imported\n"
        assert f"1 unique job came back without the lock, which another one has (job-00000002: {other})" in done.stderr
        assert set(shared_server.command("HKEYS", "tw:unique")) == {"A:1", "A:2"}  # type: ignore[arg-type]
        [sent] = client.enqueue(unique(4, "A:1"))
        assert sent.duplicate_of == "job-00000001"
        assert act(redis_url, "import", file).stdout == "0 jobs imported, 2 there already\n"


def test_what_waited_to_follow_another_one_does_so_again(redis_url: str, shared_server: Server, tmp_path: Path):
    queue, following = str(tmp_path / "queue.jsonl"), str(tmp_path / "next.jsonl")
    with Client(redis_url) as client:
        client.enqueue(unique(1, "A:1"))
        client.enqueue(unique(2, "A:1", "latest"))
        act(redis_url, "export", "queue:reports", "-o", queue)
        act(redis_url, "export", "next", "-o", following)
        shared_server.command("FLUSHALL")
        act(redis_url, "import", queue)
        for _ in range(2):
            assert act(redis_url, "import", following).stderr == ""
            assert [jid_and_lock(payload) for payload in members(shared_server, "tw:next")] == [("job-00000002", "A:1")]
            shared_server.command("DEL", *shared_server.command("KEYS", "tw:restored:*"))  # type: ignore[misc]
        assert shared_server.command("SMEMBERS", "queues") == ["reports"]
        assert shared_server.command("LLEN", "queue:reports") == 1
        shared_server.command("FLUSHALL")
        act(redis_url, "import", following)  # there is nobody to follow
        assert shared_server.command("HLEN", "tw:unique") == shared_server.command("LLEN", "queue:reports") == 1


def test_periodic_jobs_that_live_in_redis_only_are_kept(redis_url: str, shared_server: Server, tmp_path: Path):
    file = tmp_path / "cron.jsonl"
    with Client(redis_url) as client:
        client.periodic("nightly", "0 4 * * *", Job("reports", "A", [1], retry=3), tz="Asia/Tokyo", jitter=60)
        client.periodic("often", "@every 10s", Job("reports", "A"), overlap="skip")
    shared_server.command("HSET", "tw:cron:code", "definition", "{}", "origin", "code")
    shared_server.command("ZADD", "tw:cron", 1, "code", 2, "broken")
    shared_server.command("HSET", "tw:cron:broken", "definition", "junk", "origin", "dynamic")
    act(redis_url, "cron", "pause", "often")
    before = act(redis_url, "cron", "--json").stdout
    done = act(redis_url, "export", "cron", "-o", str(file))
    assert "2 periodic jobs written" in done.stderr
    assert "1 periodic job left out that can't be read" in done.stderr
    assert "1 periodic job left out that code declares" in done.stderr
    assert act(redis_url, "import", str(file)).stdout == "0 periodic jobs imported, 2 there already\n"
    act(redis_url, "cron", "delete", "nightly")
    assert act(redis_url, "import", str(file)).stdout == "1 periodic job imported, 1 there already\n"
    act(redis_url, "cron", "delete", "often")
    assert act(redis_url, "import", str(file)).stdout == "1 periodic job imported, 1 there already\n"
    assert by_name(act(redis_url, "cron", "--json").stdout) == by_name(before)


def by_name(lines: str) -> dict[str, object]:
    found = [json.loads(line) for line in lines.splitlines()]
    return {row.pop("name"): {name: value for name, value in row.items() if name != "due"} for row in found}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"in":"cron"}', "no periodic job: Object missing required field"),
        ('{"in":"cron","name":"a b","entry":ENTRY}', "is called 'a b'"),
        ('{"in":"cron","name":"q/A","entry":ENTRY}', "is called 'q/A'"),
        ('{"in":"cron","name":"a","entry":7}', "it does not define a periodic job"),
        ('{"in": "cron", "name": "a", "entry": {"v": 9}}', "a newer version of trioworkers wrote it"),
        (
            '{"in":"cron","name":"a","entry":{"v":1,"expression":"* *","job":{"queue":"q","class":"A","args":[]}}}',
            "2 fields",
        ),
    ],
)
def test_line_that_is_no_periodic_job_is_refused_with_its_number(redis_url: str, tmp_path: Path, line: str, why: str):
    file = tmp_path / "cron.jsonl"
    entry = '{"v":1,"expression":"@daily","job":{"queue":"q","class":"A","args":[]}}'
    good = '{"in":"cron","name":"good","entry":ENTRY}'
    file.write_text("\n".join(each.replace("ENTRY", entry) for each in (good, line)))
    said = refused(redis_url, "import", str(file))
    assert "line 2: " in said
    assert why in said
    assert "good" in act(redis_url, "cron", "--json").stdout


def with_steps(jid: str, count: int) -> bytes:
    record = {"steps": {"inside": 1}, "beside": [count, 1000]}
    return json.dumps({"class": "A", "args": [], "jid": jid, "queue": "q", "tw_record": record}).encode()


def test_results_of_steps_travel_with_their_job(redis_url: str, shared_server: Server, tmp_path: Path):
    results = {f"step {n}": json.dumps("é" * 20_000, ensure_ascii=False) for n in range(30)}
    for jid in ("one", "two"):
        shared_server.command("ZADD", "retry", 1.6e9, with_steps(jid, len(results)))
        shared_server.command("HSET", f"tw:steps:{jid}", *(text for pair in results.items() for text in pair))
    for forged in (b"\xff", b"no json", b"[" * 5000, b'"' + b"x" * 70_000 + b'"'):
        shared_server.command("HSET", "tw:steps:two", b"\xff" if forged == b"\xff" else forged[:9], forged)
    file = tmp_path / "retry.jsonl"
    assert act(redis_url, "export", "retry", "-o", str(file)).stderr == "2 jobs of the retry set written\n"
    shared_server.command("FLUSHDB")
    for added in ("2 jobs imported", "0 jobs imported, 2 there already"):
        assert act(redis_url, "import", str(file)).stdout == f"{added}\n"
        for jid in ("one", "two"):
            found = shared_server.command("HGETALL", f"tw:steps:{jid}")
            assert isinstance(found, list)
            assert dict(zip(found[::2], found[1::2], strict=True)) == results
            assert int(shared_server.command("TTL", f"tw:steps:{jid}")) > 179 * 86_400  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "line",
    [
        '{"in":"steps"}',
        '{"in":"steps","jid":"j","results":{}}',
        '{"in":"steps","jid":"","results":{"a":"1"}}',
        '{"in":"steps","jid":"j","results":{"a":"no json"}}',
        '{"in":"steps","jid":"j","results":{"a":"\\"%s\\""}}' % ("x" * 70_000),
        '{"in":"steps","jid":["j"],"results":{"a":"1"}}',
    ],
    ids=range(6),
)
def test_line_of_steps_that_is_none_is_refused(redis_url: str, shared_server: Server, tmp_path: Path, line: str):
    file = tmp_path / "broken.jsonl"
    file.write_text(f"{line}\n")
    assert "line 1: no results of steps" in refused(redis_url, "import", str(file))
    assert shared_server.command("KEYS", "*") == []
