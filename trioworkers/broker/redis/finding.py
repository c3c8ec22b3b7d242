"""Finds the primary by asking Sentinels, anew for each socket: all of them at once, half a second each.

Nothing is remembered and nothing is subscribed to. After a failover the old socket dies, or answers READONLY; the next one is opened here.
"""

from __future__ import annotations

from functools import partial

import anyio
import attrs
import trio
from anyio.abc import ByteStream

from trioworkers.broker.redis.opening import CONNECT_TIMEOUT_S, close, open_socket
from trioworkers.errors import Unreachable
from trioworkers.printable import on_one_line
from trioworkers.redis_url import RedisUrl, Sentinels
from trioworkers.wire.resp import NoReply, Reply, read_replies
from trioworkers.wire.sentinel import (
    ADVICE,
    ANSWER_WITHIN_S,
    FIRST_ANSWER_WITHIN_S,
    Named,
    Question,
    candidates,
    contradiction,
    hello,
    is_settled,
    no_answer,
    read_named,
    where_is,
    why_no_primary,
)


async def open_primary(url: RedisUrl, sentinels: Sentinels) -> ByteStream:
    """A stream to whatever server is the primary now. Raises Unreachable, which says why there is none. Cancelled, it leaves nothing open."""
    named, silent = await ask_all(sentinels)
    if not named:
        raise Unreachable(no_answer(sentinels.name, silent), ADVICE)
    opened, refused = await _open_candidates(url, named)
    if len(opened) == 1:
        return opened[0][1]
    for _, stream in opened:
        await close(stream)
    if not opened:
        raise Unreachable(f"no primary: {'; '.join(refused)}", ADVICE)
    raise Unreachable(contradiction(opened[0][0], opened[1][0], named), "do all of them belong to one deployment?")


async def _open_candidates(url: RedisUrl, named: dict[str, Named]) -> tuple[list[tuple[Named, ByteStream]], list[str]]:
    """A stream to the primary; two if neither of two is the older one; none if none of those named is one, and why not."""
    opened: list[tuple[Named, ByteStream]] = []
    refused: list[str] = []
    try:
        for place in candidates(named):
            if opened and not contradiction(opened[0][0], place, named):
                break  # older news: whoever is there will hear of it
            try:
                opened.append((place, await _open_if_primary(attrs.evolve(url, host=place.host, port=place.port))))
            except Unreachable as error:
                who = next(node for node, each in named.items() if each.is_same(place))
                refused.append(f"{place}, which {who} names: {error}")
    except BaseException:
        for _, stream in opened:
            await close(stream)
        raise
    return opened, refused


async def ask_all(sentinels: Sentinels, *, to_the_last: bool = False) -> tuple[dict[str, Named], list[str]]:
    """What each Sentinel says, until more than half of them agree or `to_the_last`, within bounds; and why those say nothing that don't."""
    named: dict[str, Named] = {}
    silent: dict[str, str] = {}
    began_at = trio.current_time()

    async def ask(host: str, port: int) -> None:
        node = f"{host}:{port}"
        try:
            named[node] = await _ask(sentinels, host, port)
        except (Unreachable, ValueError) as error:
            silent[node] = str(error)
        if not to_the_last and is_settled(named, len(sentinels.nodes)):
            nursery.cancel_scope.cancel()
        elif named:
            nursery.cancel_scope.deadline = began_at + ANSWER_WITHIN_S

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = began_at + FIRST_ANSWER_WITHIN_S
        for host, port in sentinels.nodes:
            nursery.start_soon(partial(ask, host, port))
    within_s = ANSWER_WITHIN_S if named else FIRST_ANSWER_WITHIN_S
    # As the URL has them, not as they were quick: what is said of them is the same each time.
    order = [f"{host}:{port}" for host, port in sentinels.nodes]
    why = {node: silent.get(node, f"no answer within {within_s:g} s") for node in order if node not in named}
    return {node: named[node] for node in order if node in named}, sorted(
        on_one_line(f"{node}: {reason}") for node, reason in why.items()
    )


async def _ask(sentinels: Sentinels, host: str, port: int) -> Named:
    question = where_is(sentinels.name, sentinels.username, sentinels.password)
    stream = await open_socket(RedisUrl(host, port, tls=sentinels.tls))
    try:
        return read_named(sentinels.name, await exchange(stream, question))
    finally:
        await close(stream)


async def _open_if_primary(url: RedisUrl) -> ByteStream:
    stream = await open_socket(url)
    why = "it accepts connections, but doesn't answer"
    try:
        with trio.move_on_after(url.connect_timeout_s or CONNECT_TIMEOUT_S):
            why = why_no_primary(await exchange(stream, hello(url.username, url.password)))
    except NoReply as error:
        why = str(error)
    except BaseException:
        await close(stream)
        raise
    if not why:
        return stream
    await close(stream)
    raise Unreachable(why)


async def exchange(stream: ByteStream, question: Question) -> list[Reply]:
    """Ask, and read exactly the replies. Raises Unreachable or NoReply."""
    data = b""
    try:
        await stream.send(question.words)
        while (replies := read_replies(data, question.replies)) is None:
            data += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError, OSError) as error:
        raise Unreachable("it closed the connection") from error
    return replies
