"""Which Redis a command means, and what decided on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from trioworkers.cli.dev.note import find_note
from trioworkers.cli.usage import check_options, check_url
from trioworkers.errors import Refused, Unavailable
from trioworkers.redis_url import shown_url
from trioworkers.settings import DEFAULT_URL

DEFAULT = "the default address"


@attrs.frozen
class Place:
    """A Redis and a namespace in it. `source`: what decided on this one, for messages."""

    url: str
    namespace: str = ""
    source: str = DEFAULT

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Has errors of Redis say which one that is, and what decided on it."""
        try:
            yield
        except Refused as error:
            raise Refused(f"Redis at {shown_url(self.url)} ({self.source}): {error}") from error
        except Unavailable as error:
            where = self.source if self.source != DEFAULT else f"{DEFAULT}; no `trioworkers dev` runs here"
            raise Unavailable(f"no answer from Redis at {shown_url(self.url)} ({where}): {error}") from error


def which_redis(redis: str | None, namespace: str | None = None) -> Place:
    """What `--redis` and `--namespace` say, else REDIS_URL, else a `dev` that runs here or above, else the default address.

    Raises WrongUsage.
    """
    check_options(namespace=namespace)
    if redis is not None:
        check_url(redis, "--redis")
        return Place(redis, namespace or "", "--redis")
    if url := os.environ.get("REDIS_URL"):
        check_url(url, "REDIS_URL")
        return Place(url, namespace or "", "REDIS_URL")
    note = find_note(Path.cwd())
    if note is not None and note.url:
        chosen = note.namespace if namespace is None else namespace
        return Place(note.url, chosen, f"`trioworkers dev` (pid {note.pid})")
    return Place(DEFAULT_URL, namespace or "")
