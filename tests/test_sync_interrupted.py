"""The blocking client when something comes between: an exception out of a signal handler or another greenlet, and a call out of a signal handler."""

from __future__ import annotations

import pytest
from test_sync import program

INTERRUPTED = """
from contextlib import suppress
from interrupting import Interruption, interrupted
from trioworkers.sync import Client

def interrupt():
    raise Interruption

client, at, was_reached = Client({url!r}, max_connections=1, retry_for=0), 0, True
client.command("ECHO", "first")
while was_reached:
    at += 1
    with suppress(Interruption):
        was_reached = interrupted(lambda: client.command("ECHO", "interrupted"), at, interrupt)
    assert client.command("ECHO", at) == str(at).encode(), f"after an interruption at line {{at}}"
print(at > 50)
"""
CALLED_FROM_A_HANDLER = """
from interrupting import interrupted
from trioworkers.sync import Client

client, at, was_reached, replies = Client({url!r}, max_connections=2, retry_for=0), 0, True, []
client.command("ECHO", "first")
while was_reached:
    at += {stride}
    if {connects}:
        client.close()
    was_reached = interrupted(
        lambda: replies.append(client.command("ECHO", "outer")),
        at,
        lambda: replies.append(client.command("ECHO", "inner")),
    )
    assert replies in ([b"inner", b"outer"], [b"outer", b"inner"], [b"outer"]), (at, replies)
    assert (len(replies) == 2) == was_reached
    replies.clear()
print(at > 50)
"""


def test_interrupted_call_takes_no_connection_with_it_and_leaves_no_reply(redis_url: str):
    """With one connection only: if it were lost, or the reply still to come, the next call would show it."""
    done = program(INTERRUPTED.format(url=redis_url))
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("connects", [False, True])
def test_call_out_of_a_signal_handler_waits_for_nothing_that_its_thread_holds(redis_url: str, connects: bool):
    stride = 7 if connects else 1  # to connect takes its time
    done = program(CALLED_FROM_A_HANDLER.format(url=redis_url, connects=connects, stride=stride))
    assert done.stdout == "True\n", done.stderr
