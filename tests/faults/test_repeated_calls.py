"""Clients that repeat their calls: a Redis that restarts, and replies that are lost. Nothing doubled, nothing lost that was acknowledged."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.lowlevel
from any_client import AnyClient
from proxy import Proxy
from servers import Server, wait_for

import trioworkers
import trioworkers.asyncio
import trioworkers.sync
from trioworkers import Job, Unavailable

SENDERS = 20
THREADS = 200


def numbers(server: Server) -> Counter[int]:
    """The first argument of each job in the queue, and how often it is there."""
    found = server.command("LRANGE", "queue:q", 0, -1)
    assert isinstance(found, list)
    return Counter(json.loads(payload)["args"][0] for payload in found)


def send_in_threads(url: str, counter: Iterator[int], acknowledged: list[int], stop: threading.Event) -> None:
    client = trioworkers.sync.Client(url, retry_for=60)

    def send() -> None:
        while not stop.is_set():
            n = next(counter)
            client.enqueue(Job("q", "Work", [n]))
            acknowledged.append(n)

    with ThreadPoolExecutor(THREADS) as pool:
        for each in [pool.submit(send) for _ in range(THREADS)]:
            each.result()
    client.close()


def send_in_tasks(url: str, counter: Iterator[int], acknowledged: list[int], stop: threading.Event) -> None:
    async def send(client: trioworkers.asyncio.Client) -> None:
        while not stop.is_set():
            n = next(counter)
            await client.enqueue(Job("q", "Work", [n]))
            acknowledged.append(n)

    async def main() -> None:
        async with trioworkers.asyncio.Client(url, retry_for=60) as client, asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(send(client))

    asyncio.run(main())


def send_in_trio(url: str, counter: Iterator[int], acknowledged: list[int], stop: threading.Event) -> None:
    async def send(client: trioworkers.Client) -> None:
        while not stop.is_set():
            n = next(counter)
            with suppress(Unavailable):
                await client.enqueue(Job("q", "Work", [n]))
                acknowledged.append(n)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trioworkers.Client(url) as client, trio.open_nursery() as nursery:
            for _ in range(SENDERS):
                nursery.start_soon(send, client)

    trio.run(main)


def send_in_program(
    text: str, url: str, counter: Iterator[int], acknowledged: list[int], stop: threading.Event
) -> None:
    """In a program that tells each number when it is acknowledged, until its input ends."""
    del counter
    command = [sys.executable, "-W", "ignore", "-c", text.format(url=url, senders=SENDERS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        threading.Thread(target=lambda stdin: (stop.wait(), stdin.close()), args=[program.stdin], daemon=True).start()
        for line in program.stdout:
            acknowledged.append(int(line))  # noqa: PERF401 - others look at it meanwhile
    assert program.returncode == 0


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import gevent, itertools, os, sys
from gevent.os import tp_read
from trioworkers import Job, Unavailable
from trioworkers.sync import Client

client, counter, over = Client({url!r}, retry_for=60), itertools.count(), False

def send():
    while not over:
        n = next(counter)
        client.enqueue(Job("q", "Work", [n]))
        os.write(1, b"%d\\n" % n)

greenlets = [gevent.spawn(send) for _ in range({senders})]
tp_read(0, 1)
over = True
gevent.joinall(greenlets, raise_error=True)
"""
FORKS = """
import os, select
from trioworkers import Job, Unavailable
from trioworkers.sync import Client

client, children = Client({url!r}, retry_for=60), []
client.enqueue(Job("q", "Work", [0]))
os.write(1, b"0\\n")
for first in range(1, 5):
    pid = os.fork()
    if not pid:
        n = first
        while not select.select([0], [], [], 0)[0]:
            client.enqueue(Job("q", "Work", [n]))
            os.write(1, b"%d\\n" % n)
            n += 4
        os._exit(0)
    children.append(pid)
assert not any(os.waitpid(pid, 0)[1] for pid in children)
"""


def sent_over_restarts(server: Server, send: Callable[..., None]) -> list[int]:
    """Two restarts of Redis by `kill -9` while jobs are sent; returns the numbers of those that were acknowledged."""
    acknowledged: list[int] = []
    stop = threading.Event()

    def go_on(count: int) -> None:
        so_far = len(acknowledged)
        wait_for(lambda: len(acknowledged) > so_far + count, "jobs are sent")

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, server.url, iter(range(10**6)), acknowledged, stop)
        try:
            for _ in range(2):
                go_on(100)
                server.kill()
                server.start()
            go_on(100)
        finally:
            stop.set()
        sending.result()
    return acknowledged


@pytest.mark.parametrize(
    "send",
    [send_in_threads, send_in_tasks, partial(send_in_program, GREENLETS), partial(send_in_program, FORKS)],
    ids=["threads", "tasks", "greenlets", "forks"],
)
def test_restart_of_redis_doubles_nothing_and_loses_nothing_that_was_acknowledged(
    server: Server, send: Callable[..., None]
):
    acknowledged = sent_over_restarts(server, send)
    assert numbers(server) == Counter(acknowledged)


def test_restart_of_redis_takes_nothing_that_a_trio_client_was_told_of(server: Server):
    """It makes each call once: what failed may have been carried out or not, and is not sent again here."""
    acknowledged = sent_over_restarts(server, send_in_trio)
    found = numbers(server)
    assert set(acknowledged) <= set(found)
    assert set(found.values()) == {1}


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_lost_reply_never_doubles(server: Server, proxy: Proxy, kind: str):
    """The call is carried out, its reply is lost, the connection breaks, and the call is made again."""
    client = AnyClient(kind, proxy.url)
    client.enqueue(Job("q", "Work", [0]))
    for n in range(1, 4):
        client.enqueue(Job("q", "Work", [10 + n]))  # there is a connection that works
        with ThreadPoolExecutor(1) as pool:
            with proxy.losing_replies():
                sending = pool.submit(client.enqueue, Job("q", "Work", [n]))
                wait_for(lambda n=n: numbers(server)[n], "it is carried out")
                assert not sending.done()
            sending.result()
    client.close()
    assert numbers(server) == Counter([*range(4), 11, 12, 13])
