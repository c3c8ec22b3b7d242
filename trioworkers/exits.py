"""Exits: what follows when a job ends for good, by its payload alone. Pure.

Two lifetimes, never mixed. *What a job holds* (a result that somebody waits for, a lock, its place in a batch) is named in its
payload, so whoever ends it knows from the payload alone what to let go: the worker that ran it, one that buries it after a crash, a
person who deletes it. *What an attempt holds* (permits) is in the record that its worker keeps in Redis, and goes when the job leaves that
worker's in-progress list, whichever way: see `departures.py`.

Every script and command by which a job ends asks `on_exit`; every one by which it leaves a worker asks `on_departure`, or has the
script let go what the record says. `tests/test_exits.py` reads them all and fails for one that doesn't.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from trioworkers.wire.decode import jid_of
from trioworkers.wire.ended import Exit, encode_ended
from trioworkers.wire.lifetime import KEEP_FIELD, kept_s
from trioworkers.wire.lock import LOCK_FIELD, lock_in
from trioworkers.wire.membership import BATCH_FIELD, batch_in
from trioworkers.wire.packing import unpack_bytes
from trioworkers.wire.periodic import TICK_FIELD, tick_in
from trioworkers.wire.record import RECORD_FIELD, beside

DEAD_S = 180 * 86_400
"""As long as Sidekiq keeps what is dead, and nobody tells us when it drops it."""

Effect = tuple[Any, ...]
"""What a script does about what is held: `(kind, …)`, see `broker/preludes/effects.lua`."""


class Named(
    msgspec.Struct,
    rename={"keep": KEEP_FIELD, "lock": LOCK_FIELD, "record": RECORD_FIELD, "batch": BATCH_FIELD, "tick": TICK_FIELD},
):
    """What a payload names of what its job holds, as it stands there."""

    jid: Any = None
    batch: Any = None
    keep: Any = None
    lock: Any = None
    record: Any = None
    tick: Any = None
    error_class: Any = None
    error_message: Any = None


_decode = msgspec.json.Decoder(Named).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def names_of_held(payload: bytes) -> Named | None:
    """What a payload names of what its job holds; None if it can't be read."""
    try:
        return _decode(payload)
    except (ValueError, RecursionError, MemoryError):
        return None


def jid_in(holds: Named, payload: bytes) -> str:
    """The jid of its job, under which what it holds is known."""
    return holds.jid if isinstance(holds.jid, str) and holds.jid else jid_of(payload)


def on_exit(payload: bytes, how: Exit) -> tuple[Effect, ...]:
    """What is to be done about what a job holds that ends so, by its payload. An unreadable one holds nothing."""
    if b'"tw_' not in payload:  # most hold nothing, and need not be read for it
        return ()
    holds = names_of_held(payload)
    if holds is None:
        return ()
    jid = jid_in(holds, payload)
    effects: list[Effect] = []
    kept = kept_s(holds.keep)
    if kept is not None:
        effects.append(result(jid, kept, how, error=(holds.error_class, holds.error_message)))
    lock = lock_in(holds.lock)
    if lock is not None and lock.until != "spell" and how != "replaced":  # who replaces it has its lock
        effects.append(("unlock", lock.key, jid))
    if beside(holds.record)[0]:
        effects.append(("steps", jid, (), DEAD_S if how == "dead" else 0))
    if (batch := batch_in(holds.batch)) is not None:
        effects.append(("member", batch.batch, jid, how))
    tick = tick_in(holds.tick)
    if tick is not None:
        effects.append(("run", tick.entry, jid, how))
    return tuple(effects)


def on_exit_of_dead(payload: bytes, how: Exit) -> tuple[Effect, ...]:
    """The same for one that is dead, which has let go what it held when it died. But as long as it lies there it may be retried: so its steps are kept, and its batch waits for it."""
    return tuple(effect for effect in on_exit(payload, how) if effect[0] in ("member", "steps"))


def on_unread_exit(packed: bytes, how: Exit) -> tuple[Effect, ...]:
    """The same for a payload that is too large to be read, by what was noted of it: its beginning and its end, between which are its arguments.

    Fields at either side are found; what is inside of arguments isn't a field, unless it was made to look like one, and then it says no more than its
    author could have written into a field.
    """
    try:
        head, tail = unpack_bytes(packed)
        fields = _fields_before(head) | _fields_after(tail)
    except (ValueError, TypeError, AttributeError):
        return ()
    return on_exit(msgspec.json.encode(fields), how)


def _fields_before(head: bytes) -> dict[str, msgspec.Raw]:
    ends = [index for index in range(len(head)) if head.startswith(b',"', index)]
    return next((found for end in reversed(ends) if (found := _as_fields(head[:end] + b"}"))), {})


def _fields_after(tail: bytes) -> dict[str, msgspec.Raw]:
    begins = [index + 1 for index in range(len(tail)) if tail.startswith(b',"', index)]
    return next((found for begin in begins if (found := _as_fields(b"{" + tail[begin:]))), {})


def _as_fields(text: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _decode_fields(text)
    except (ValueError, RecursionError, MemoryError):
        return {}


def on_move(payload: bytes) -> tuple[Effect, ...]:
    """What is to be done about what a job holds that goes to another place: the search for what others deleted shall know that it moved."""
    if b'"tw_lock"' not in payload and b'"tw_batch"' not in payload:
        return ()
    ends = on_exit(payload, "deleted")
    touched = [("touch", *effect[1:]) for effect in ends if effect[0] == "unlock"]
    return (*touched, *(("moved", effect[1]) for effect in ends if effect[0] == "member"))


def given_up(effects: Sequence[Effect]) -> tuple[str, str] | None:
    """The key of the lock that an end lets go, and the jid that held it: what is sent with that end finds it free."""
    return next(((effect[1], effect[2]) for effect in effects if effect[0] == "unlock"), None)


def result(
    jid: str, keep_s: int, how: Exit, value: bytes | None = None, *, error: tuple[object, object] = ("", "")
) -> Effect:
    """The effect that keeps how a job ended, with `value` in JSON, for `keep_s` seconds."""
    return ("result", jid, encode_ended(how, value, error), keep_s)
