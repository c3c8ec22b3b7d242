"""What the tests of commands that act share: run one, seed a Redis with jobs, see what is in it."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner
from servers import Server

from trioworkers.cli.commands import app


def act(url: str, *words: str, status: int = 0) -> Any:
    done = CliRunner().invoke(app, [*words, "--redis", url])
    if status == 0:
        assert done.exit_code == 0, (done.output, done.exception)
    return done


def refused(url: str, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--redis", url])
    assert done.exit_code != 0
    return f"{done.exception} {done.stderr}"


def payload(number: int, **fields: object) -> str:
    job = {"class": "A", "args": [number, 1.10], "jid": f"jid{number}", "queue": "q", "enqueued_at": 1.5e9, **fields}
    return json.dumps(job)


def fill(server: Server, key: str, count: int, since: float = 1.6e9, **fields: object) -> list[str]:
    payloads = [payload(n, **fields) for n in range(count)]
    for start in range(0, count, 5000):
        page = payloads[start : start + 5000]
        if key.startswith("queue:"):
            server.command("LPUSH", key, *page)
        else:
            server.command("ZADD", key, *(word for n, text in enumerate(page, start) for word in (since + n, text)))
    return payloads


def members(server: Server, key: str) -> list[str]:
    kind = server.command("TYPE", key)
    found = server.command("LRANGE", key, 0, -1) if kind == "list" else server.command("ZRANGE", key, 0, -1)
    assert isinstance(found, list)
    return found[::-1] if kind == "list" else found


def jobs_in(server: Server, key: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in members(server, key)]
