"""Export and import, against a real Redis: to the byte, in order, and only once."""

from __future__ import annotations

from pathlib import Path

from acting import act, fill, members, refused
from servers import Server
from typer.testing import CliRunner

from trioworkers.cli.commands import app


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
