"""Who waits for a result is told when it is there, whatever kind of client it has; and finds it by itself where nobody may tell."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import anyio
import pytest
import trio
from any_client import KINDS, AnyClient
from servers import Server, wait_for

from trioworkers.broker.redis.listening import Listener
from trioworkers.jobs import exchanges
from trioworkers.wire.ended import encode_ended
from trioworkers.wire.keys import Keys

CHANNEL = Keys("").result("a")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def told_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told looks no more by itself."""
    monkeypatch.setattr(exchanges, "LOOK_AGAIN_S", 600.0)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def listeners(server: Server) -> int:
    found: Any = server.command("PUBSUB", "NUMSUB", CHANNEL)
    return int(found[1])


def ends(server: Server, *, tell: bool = True) -> None:
    server.command("SET", CHANNEL, encode_ended("succeeded", b'"done"'))
    if tell:
        server.command("PUBLISH", CHANNEL, "")


def wait_until_all_looked(server: Server, waits: list[Future[Any]]) -> None:
    """Each has listened, and looked once more since."""
    wait_for(lambda: listeners(server) > 0, "somebody listens")
    assert not any(wait.done() for wait in waits)


@pytest.mark.usefixtures("told_only")
def test_who_waits_is_told(kind: str, redis_url: str, shared_server: Server, pool: ThreadPoolExecutor):
    client = AnyClient(kind, redis_url)
    waits = pool.submit(client.result, "a", timeout=120)
    wait_until_all_looked(shared_server, [waits])
    ends(shared_server)
    assert waits.result() == "done"
    client.close()
    wait_for(lambda: listeners(shared_server) == 0, "nobody listens any more")


def test_who_lost_the_connection_by_which_it_would_be_told_looks_again(
    kind: str, redis_url: str, shared_server: Server, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exchanges, "LOOK_AGAIN_S", 0.2)
    client = AnyClient(kind, redis_url)
    waits = pool.submit(client.result, "a", timeout=120)
    wait_until_all_looked(shared_server, [waits])
    shared_server.command("CLIENT", "KILL", "TYPE", "pubsub")
    ends(shared_server, tell=False)
    assert waits.result() == "done"
    client.close()


def test_user_who_may_not_listen_finds_it_by_looking(kind: str, server: Server, pool: ThreadPoolExecutor):
    server.command("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "resetchannels")
    client = AnyClient(kind, server.url.replace("redis://", "redis://deaf:pw@"))
    waits = pool.submit(client.result, "a", timeout=120)
    wait_for(lambda: server.command("ACL", "LOG"), "it was refused")
    ends(server)
    assert waits.result() == "done"
    client.close()


def test_threads_that_wait_leave_connections_for_the_others(redis_url: str, shared_server: Server):
    client = AnyClient("sync", redis_url, max_connections=2)
    with ThreadPoolExecutor(10) as pool:
        waits = [pool.submit(client.result, "a", timeout=120) for _ in range(10)]
        wait_until_all_looked(shared_server, waits)
        assert listeners(shared_server) == 1
        ends(shared_server)
        assert [wait.result() for wait in waits] == ["done"] * 10
    client.close()


async def test_a_socket_that_is_just_closing_is_no_error_of_who_waits(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
):
    """Between its end and our hearing of it commands can't be sent: who waits looks by itself."""

    class Closing:
        usable = True

        def send_command(self, *_: object) -> None:
            raise anyio.ClosedResourceError

    class Alive:
        is_over = False

    async with trio.open_nursery() as nursery:
        listener = Listener(lambda: pytest.fail("it has a socket"), nursery)
        monkeypatch.setattr(listener, "_socket", Closing())
        monkeypatch.setattr(listener, "_epoch", Alive())
        with listener.listen("channel") as news:
            assert await news.wait(1) is False
