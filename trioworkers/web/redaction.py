"""What is shown of a payload where not all of it may be: the user's own function decides, once, before anything is filtered or shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from trioworkers.wire.entry import Entry

logger = logging.getLogger("trioworkers.web")

Redact = Callable[[dict[str, Any]], dict[str, Any]]
"""Is given a job's fields, a copy (`class`, `args`, `error_message`, …), and returns those that are shown. What it hides can't be searched for, either."""


def redacted(entry: Entry, redact: Redact | None) -> Entry:
    """The entry as it may be shown. Where the function fails, or there is nothing that it could read, class and jid are all that is shown."""
    if redact is None:
        return entry
    payload = None
    try:
        if entry.readable:
            payload = msgspec.json.encode(redact(msgspec.json.decode(entry.payload, type=dict[str, Any])))
    except Exception as error:  # noqa: BLE001 - somebody else's function: what it can't look at isn't shown
        logger.error("redact failed for job %s, nothing of it is shown: %s", entry.jid, type(error).__name__)
    if payload is None:
        payload = msgspec.json.encode({"jid": entry.jid, "class": entry.job_class, "args": ["(withheld)"]})
    return attrs.evolve(entry, payload=payload)
