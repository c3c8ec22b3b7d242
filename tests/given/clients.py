"""What docs/clients.md takes for granted."""

import asyncio  # noqa: F401 - its second program runs there
import json

from trioworkers import Job  # noqa: F401


def check(names, server):
    names["client"]  # the block with asyncio closed its own
    waiting = [json.loads(payload)["args"] for payload in server.command("LRANGE", "queue:mail", 0, -1)]
    assert sorted(waiting) == [[7], [7], [8]]
    assert server.command("ZCARD", "schedule") == 1
