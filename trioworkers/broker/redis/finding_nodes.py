"""Finds the node of a cluster that has our slot, anew for each socket: the nodes of the URL, and where they send us."""

from __future__ import annotations

import attrs
import trio
from anyio.abc import ByteStream

from trioworkers.broker.redis.finding import exchange
from trioworkers.broker.redis.opening import close, open_socket
from trioworkers.errors import Unreachable
from trioworkers.printable import on_one_line
from trioworkers.redis_url import Cluster, RedisUrl
from trioworkers.wire.cluster import MOST_HOPS, Elsewhere, read_whose, whose

_seen: dict[Cluster, tuple[str, int]] = {}
"""Where the slot was last: asked first, and there when those of the URL are not. One entry for each URL of the program."""
_turns: dict[Cluster, int] = {}
"""Which node of the URL is asked first: each time another one, so that some that hang don't use up the time of every attempt."""
ASK_WITHIN_S = 1.0
"""What a node gets, connecting included, if the URL says nothing else."""


async def open_owner(url: RedisUrl, cluster: Cluster) -> ByteStream:
    """A stream to the node that has the slot. Raises Unreachable, which says why there is none. Cancelled, it leaves nothing open."""
    refused: list[str] = []
    known = _seen.pop(cluster, None)  # there again if it is of use
    turn = _turns.get(cluster, -1) + 1
    _turns[cluster] = turn
    first = turn % len(cluster.nodes)
    nodes = cluster.nodes[first:] + cluster.nodes[:first]
    for node in dict.fromkeys([*([known] if known else []), *nodes]):
        try:
            stream, _seen[cluster] = await _follow(url, cluster, node)
        except (Unreachable, ValueError) as error:
            refused.append(on_one_line(f"{node[0]}:{node[1]}: {error}"))
        else:
            return stream
    raise Unreachable(f"no node has the slot of {cluster.key!r}: {'; '.join(refused)}", "redis-cli --cluster check")


async def _ask(url: RedisUrl, key: str) -> tuple[ByteStream, Elsewhere | None]:
    stream = await open_socket(url)
    try:
        return stream, read_whose(await exchange(stream, whose(key, url.username, url.password)))
    except BaseException:
        await close(stream)
        raise


async def _follow(url: RedisUrl, cluster: Cluster, node: tuple[str, int]) -> tuple[ByteStream, tuple[str, int]]:
    host, port = node
    for _ in range(MOST_HOPS):
        with trio.move_on_after(url.connect_timeout_s or ASK_WITHIN_S) as scope:
            stream, elsewhere = await _ask(attrs.evolve(url, host=host, port=port), cluster.key)
        if scope.cancelled_caught:
            raise Unreachable(f"{host}:{port} doesn't answer")
        if elsewhere is None:
            return stream, (host, port)
        await close(stream)
        host, port = elsewhere.host or host, elsewhere.port
    raise Unreachable(f"sent from node to node, at last to {host}:{port}")
