"""What people ask of a running worker, and what it answers: values in, texts out."""

from __future__ import annotations

from typing import Literal

import attrs
import msgspec

Fate = Literal["bury", "discard", "requeue"]


@attrs.frozen
class Ask:
    """`cancel`: stop the job `jid`, and do `then` with it. `tree`: tell where up to `limit` jobs await (only `jid`, if given).

    The answer is wanted under `token`; a cancelled job gets `patience_s` seconds to end before it is said to be stubborn.
    """

    token: str
    do: Literal["cancel", "tree"]
    jid: str = ""
    then: Fate = "bury"
    limit: int = 50
    patience_s: float = 5.0


@attrs.frozen
class Answer:
    """`result`: done; ended (the job came to its own end first); stubborn (it was cancelled and still runs); unknown (no such job here).

    `jobs`: a paragraph for each job asked for, `more`: how many were left out.
    """

    result: Literal["done", "ended", "stubborn", "unknown"]
    jobs: list[str] = attrs.field(factory=list)
    more: int = 0


def encode(value: Ask | Answer) -> bytes:
    """`value` as it goes through Redis."""
    return msgspec.json.encode(value)


def decode_ask(text: bytes) -> Ask | None:
    """None for what this version does not understand."""
    try:
        return msgspec.json.decode(text, type=Ask)
    except (ValueError, RecursionError):
        return None


def decode_answer(text: bytes) -> Answer | None:
    """None for what this version does not understand."""
    try:
        return msgspec.json.decode(text, type=Answer)
    except (ValueError, RecursionError):
        return None
