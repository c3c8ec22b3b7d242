"""Which node of a cluster has our slot, for clients without Trio."""

from __future__ import annotations

import attrs

from trioworkers.broker.blocking_sentinels import exchange
from trioworkers.broker.redis.reasons import unreachable
from trioworkers.errors import Unreachable
from trioworkers.printable import on_one_line
from trioworkers.redis_url import Cluster, RedisUrl
from trioworkers.wire.cluster import MOST_HOPS, read_whose, whose

_seen: dict[Cluster, tuple[str, int]] = {}
"""As in `broker/redis/finding_nodes.py`."""


def owner_of(url: RedisUrl, cluster: Cluster, timeout_s: float) -> tuple[str, int]:
    """Its host and port. Blocks; raises Unreachable, which says why there is none."""
    refused: list[str] = []
    known = _seen.get(cluster)
    for node in dict.fromkeys([*([known] if known else []), *cluster.nodes]):
        try:
            _seen[cluster] = _follow(url, cluster, node, timeout_s)
        except OSError as error:
            why = unreachable(error, attrs.evolve(url, host=node[0], port=node[1]))
            refused.append(on_one_line(f"{node[0]}:{node[1]}: {why}"))
        except ValueError as error:
            refused.append(on_one_line(f"{node[0]}:{node[1]}: {error}"))
        else:
            return _seen[cluster]
    raise Unreachable(f"no node has the slot of {cluster.key!r}: {'; '.join(refused)}", "redis-cli --cluster check")


def _follow(url: RedisUrl, cluster: Cluster, node: tuple[str, int], timeout_s: float) -> tuple[str, int]:
    host, port = node
    for _ in range(MOST_HOPS):
        question = whose(cluster.key, url.username, url.password)
        elsewhere = read_whose(exchange(host, port, url.tls, question, timeout_s))
        if elsewhere is None:
            return host, port
        host, port = elsewhere.host or host, elsewhere.port
    raise ValueError(f"sent from node to node, at last to {host}:{port}")
