"""The Client in the wrong kind of program, and what it hands back."""

from __future__ import annotations

import asyncio

import pytest

from trioworkers import Client, Job, Sent


def test_asyncio_program_is_told_what_to_do():
    async def main() -> None:
        async with Client("redis://localhost:1"):
            pass

    with pytest.raises(RuntimeError, match=r"needs Trio: run the program with trio.run\(main\)"):
        asyncio.run(main())


async def test_client_outside_its_block_says_so():
    with pytest.raises(RuntimeError, match="inside its block"):
        await Client("redis://localhost:1").enqueue(Job("q", "A"))


async def test_what_was_sent_is_its_jid(redis_url: str):
    async with Client(redis_url) as client:
        job = Job("q", "A")
        (sent,) = await client.enqueue(job)
        (later,) = await client.schedule(60, Job("q", "A", [sent]))
    assert (sent, type(sent), type(later)) == (job.jid, Sent, Sent)
