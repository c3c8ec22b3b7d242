"""What is shown of a payload where not all of it may be: the user's own function decides, once, before anything is filtered or shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from trioworkers.broker.people.besides import Besides
from trioworkers.wire.ended import Ended
from trioworkers.wire.entry import Entry

logger = logging.getLogger("trioworkers.web")

Redact = Callable[[dict[str, Any]], dict[str, Any]]
"""Is given a job's fields, a copy (`class`, `args`, `error_message`, …), and returns those that are shown. What it hides can't be searched for, either.

On a job's own page it is also given what is known besides: `progress` (a text), `steps` (by name), `iterations`, `log` (a list of texts)."""


def redacted_besides(entry: Entry, besides: Besides, redact: Redact | None) -> Besides:
    """What is known besides the payload, as it may be shown: the function is given that, too, as `progress`, `steps`, `log` and so on, and what it leaves out isn't shown."""
    if redact is None or not besides:
        return besides
    texts: dict[str, Any] = {
        "progress": besides.told.message if besides.told else "",
        "steps": dict(besides.steps),
        "iterations": {name: where for name, (where, _) in besides.iterations.items()},
        "log": [line.text for line in besides.log],
    }
    try:
        job = msgspec.json.decode(entry.payload, type=dict[str, Any]) if entry.readable else {}
        left = redact({**job, **texts})
        steps, where, log = (left.get(name, type(texts[name])()) for name in ("steps", "iterations", "log"))
        return attrs.evolve(
            besides,
            told=besides.told and msgspec.structs.replace(besides.told, message=str(left.get("progress", ""))),
            steps={str(name): str(text) for name, text in steps.items()},
            iterations={
                name: (str(where[name]), over) for name, (_, over) in besides.iterations.items() if name in where
            },
            log=[msgspec.structs.replace(line, text=str(text)) for line, text in zip(besides.log, log, strict=False)],
        )
    except Exception as error:  # noqa: BLE001 - as above
        logger.error("redact failed for job %s, nothing of it is shown: %s", entry.jid, type(error).__name__)
        return only_how(besides)


def only_how(besides: Besides) -> Besides:
    """That it ended, and how. Of a job that is gone no function can say what may be shown: its class went with it."""
    how = besides.ended.how if besides.ended else besides.told.how if besides.told else ""
    return Besides(ended=Ended(how) if how else None)


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
