"""Clients that repeat their calls: a Redis that restarts, and replies that are lost. Nothing doubled, nothing lost that was acknowledged."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from any_client import AnyClient
from proxy import Proxy
from servers import Server, wait_for

import trioworkers.asyncio
import trioworkers.sync
from trioworkers import Job

SENDERS = 20


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

    with ThreadPoolExecutor(SENDERS) as pool:
        for each in [pool.submit(send) for _ in range(SENDERS)]:
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


@pytest.mark.parametrize("send", [send_in_threads, send_in_tasks])
def test_restart_of_redis_doubles_nothing_and_loses_nothing_that_was_acknowledged(
    server: Server, send: Callable[..., None]
):
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
    assert numbers(server) == Counter(acknowledged)


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
