"""Control messages to a running worker, and its replies: values in, texts out."""

from __future__ import annotations

from typing import Literal

import attrs
import msgspec

from trioworkers.wire.log_lines import LogLine

IDLE_CHECK_INTERVAL_S = 2.5
"""How often a worker checks that runs nothing: nobody cancels there, and its checks are most of what it does."""

MAX_PATIENCE_S = 3600.0

Fate = Literal["bury", "discard", "requeue"]


@attrs.frozen
class ControlMessage:
    """`cancel`: stop the job `jid`, and do `then` with it. `tree`: tell where up to `limit` jobs await (only `jid`, if given). `note`: write that into the log.

    The reply is wanted under `token`; a cancelled job gets `patience_s` seconds to end before it is said to be stubborn.
    """

    token: str
    do: Literal["cancel", "tree", "note"]
    jid: str = ""
    then: Fate = "bury"
    limit: int = 50
    patience_s: float = 5.0
    note: str = ""


@attrs.frozen
class Reply:
    """`result`: done; ended (the job came to its own end first); stubborn (it was cancelled and still runs); unknown (no such job here).

    `jobs`: a paragraph for each job asked for, `more`: how many were left out.
    """

    result: Literal["done", "ended", "stubborn", "unknown"]
    jobs: list[str] = attrs.field(factory=list)
    more: int = 0
    log: list[LogLine] = attrs.field(factory=list)
    """Of the one job that was asked for, if it keeps them: what it has logged last."""


def encode(value: ControlMessage | Reply) -> bytes:
    """`value` as it goes through Redis."""
    return msgspec.json.encode(value)


def decode_message(text: bytes) -> ControlMessage | None:
    """None for what this version does not understand."""
    try:
        message = msgspec.json.decode(text, type=ControlMessage)
    except (ValueError, RecursionError):
        return None
    return message if message.limit >= 0 and 0 <= message.patience_s <= MAX_PATIENCE_S else None


def decode_reply(text: bytes) -> Reply | None:
    """None for what this version does not understand."""
    try:
        return msgspec.json.decode(text, type=Reply)
    except (ValueError, RecursionError):
        return None
