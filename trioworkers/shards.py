"""Shards: several Redises side by side. What one is, and which of several is meant by a key.

**Rendezvous.** Of the shards in question each gets a number from its name and the key; the highest has it. So everybody who has the same list says the same,
in whatever order it stands; and when a shard is added or taken away only its own share moves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

import attrs

from trioworkers.errors import ConfigurationError
from trioworkers.redis_url import parse_redis_url, shown_url
from trioworkers.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
OWN = ""
"""The name of the App's own Redis, where that is one of several."""


@attrs.frozen
class Shard:
    """One Redis of an App with several: `url` and `namespace` as for `App`. The default is the App's namespace. Raises ConfigurationError."""

    url: str = attrs.field(repr=shown_url)
    namespace: str | None = None

    def __attrs_post_init__(self) -> None:
        Settings(redis_url=self.url, namespace=self.namespace or "")


def checked_shards(shards: object) -> dict[str, Shard]:
    """`shards` of an App. Raises ConfigurationError."""
    if shards is None:
        return {}
    if not isinstance(shards, Mapping) or not shards:
        raise ConfigurationError(f"shards is a dict of Shard(…) by name, not {shards!r:.80}")
    for name, shard in shards.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(f"a shard's name has at most 64 letters, digits or _.- , not {name!r:.80}")
        if not isinstance(shard, Shard):
            raise ConfigurationError(f"shard {name!r} is a Shard(url, namespace=…), not {shard!r:.80}")
        if shard.url == "embedded:":
            raise ConfigurationError(
                f"shard {name!r}: nobody else finds an embedded Redis without a directory; give it embedded:DIRECTORY, or the URL of a server"
            )
    return dict(shards)


def checked_names(queue: str, names: object, known: Iterable[str]) -> tuple[str, ...] | None:
    """`shards` of a queue. Raises ConfigurationError."""
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise ConfigurationError(f"queue {queue!r}: shards is a list of names, not {names!r:.80}")
    there = tuple(known)
    for name in names:
        if name not in there:
            say = f"the App has {', '.join(there)}" if there else "the App has none: App(shards={…})"
            raise ConfigurationError(f"queue {queue!r}: there is no shard {name!r:.80}; {say}")
    if len(set(names)) < len(names):
        raise ConfigurationError(f"queue {queue!r}: names one shard twice")
    return tuple(names)


def check_apart(places: Mapping[str, tuple[str, str]]) -> None:
    """Raise ConfigurationError if two shards are the same keys of the same database. `places`: URL and namespace by name."""
    seen: dict[object, str] = {}
    for name, (url, namespace) in places.items():
        other = seen.setdefault(_database(url, namespace), name)
        if other != name:
            raise ConfigurationError(
                f"{called(other)} and {called(name)} are the same database and namespace, {shown_url(url)}{f' ({namespace})' if namespace else ''}: "
                "give one of them another database, or another namespace"
            )


def _database(url: str, namespace: str) -> object:
    if url.startswith("embedded:"):
        return url, namespace
    said = parse_redis_url(url)
    host = "127.0.0.1" if said.host in ("localhost", "::1") else said.host.lower()
    sentinels = None if said.sentinels is None else (said.sentinels.name, said.sentinels.nodes)
    nodes = None if said.cluster is None else said.cluster.nodes
    return host, said.port, said.path, said.db, sentinels, nodes, namespace


def called(name: str) -> str:
    """A shard, for people."""
    return f"shard {name!r}" if name else "the App's own Redis"


def chosen(names: Sequence[str], key: str) -> str:
    """The one of these shards that has `key`: see the module."""
    if len(names) == 1:
        return names[0]
    return max(names, key=lambda name: _weight(name, key))


def _weight(name: str, key: str) -> tuple[bytes, str]:
    text = f"{name}\0{key}".encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest(), name
