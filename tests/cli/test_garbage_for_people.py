"""Whatever somebody wrote to keys of ours, every command and every page says what it can, and none fails with an error of its own."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from garbage import OURS, WRITE, key_of
from servers import Server
from visiting import HERE, PAGES, visiting

from trioworkers.cli.commands import app
from trioworkers.errors import TrioworkersError
from trioworkers.web import asgi

LOOKS = [
    *(["ps"], ["queues"], ["jobs", "q"], ["retries"], ["scheduled"], ["dead"], ["parked"], ["next"], ["waiting"]),
    *(
        ["show", "jid0"],
        ["result", "jid0"],
        ["finished"],
        ["finished", "Note"],
        ["batches"],
        ["batch", "b1"],
        ["stats"],
    ),
    *(["limits"], ["limits", "show", "crm"], ["unique"], ["cron"], ["outboxes"], ["doctor"], ["export", "queue:q"]),
]
MORE = (
    *("/job?jid=jid0", "/payload?jid=jid0", "/batch?id=b1", "/queue?name=q", "/cron?name=q", "/limits?name=crm"),
    *("/finished?class=Note", "/outbox?target=q", "/outboxes", "/metrics", "/waiting.svg?queue=q", "/rates.svg"),
)


@pytest.fixture
def garbage(redis_url: str, shared_server: Server) -> str:
    """A Redis in which all keys of ours are garbage of the right type."""
    for key in OURS:
        command, *words = WRITE[key.type]
        shared_server.command(command, key_of(key.name), *words)
    return redis_url


def look(url: str, words: list[str]) -> str:
    """What a command says. It fails in words, or not at all."""
    done = CliRunner().invoke(app, [*words, "--redis", url])
    assert done.exception is None or isinstance(done.exception, SystemExit | TrioworkersError), (words, done.exc_info)
    assert "Traceback" not in done.output
    return done.output


async def visit(url: str) -> dict[str, int]:
    """The status of each page that is no 200, 400 or 404: it was read, or one asked for what isn't there."""
    found = {}
    async with visiting(asgi(url), headers=HERE) as visitor:
        for path in (*PAGES, *MORE):
            page = await visitor.get(path)
            assert "our own mistake" not in page.text, path
            found[path] = page.status_code
    return {path: status for path, status in found.items() if status not in (200, 400, 404)}


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_commands_live_with_garbage_in_all_our_keys(garbage: str, words: list[str], options: list[str]):
    look(garbage, [*words, *options])


async def test_pages_live_with_garbage_in_all_our_keys(garbage: str):
    assert await visit(garbage) == {}
