"""Departures: what follows when an attempt leaves its worker, and of a job that its own worker ends, which knows more of it than its payload says. Pure.

What is held, and for how long, is said in `exits.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs
import msgspec

from trioworkers.exits import DEAD_S, Effect, jid_in, names_of_held, result
from trioworkers.outcome import Acknowledge, Bury, Checkpoint, Discard, Expire, LetGo, Outcome, Requeue
from trioworkers.wire.ended import Exit
from trioworkers.wire.lifetime import kept_s
from trioworkers.wire.lock import lock_in
from trioworkers.wire.log_lines import ENDED_S as LOG_S
from trioworkers.wire.log_lines import FAILED_S, LogLines
from trioworkers.wire.membership import batch_in
from trioworkers.wire.periodic import tick_in
from trioworkers.wire.record import beside
from trioworkers.wire.reported import ENDED_S, RUNNING_S, Finished, Reported, encode_finished, encode_reported


@attrs.frozen
class Permit:
    """What an attempt holds: `member` of the limits `limits`, as the record `record` (its key) of its in-progress list has it, for job `jid`.

    `within`: only part of the attempt, within its slot.
    """

    member: str
    limits: tuple[str, ...]
    jid: str
    record: str
    within: bool = False


class Beside(Protocol):
    """What a job recorded beside its payload."""

    @property
    def to_write(self) -> Mapping[str, bytes]:
        """What of it Redis is not known to have."""

    @property
    def unsaved_bytes(self) -> int:
        """About how large that is."""


@attrs.frozen
class Kept:
    """Records of earlier attempts, nothing new among them."""

    to_write: Mapping[str, bytes] = attrs.field(factory=dict)
    unsaved_bytes: int = 0


@attrs.frozen
class Held:
    """What a job and its attempt hold, of the few that hold anything.

    A permit, the key of a lock, records beside the payload, membership of a batch, and for how many seconds it is kept how the job ended. `entry`: the periodic job of which it is a run.
    `closes`: which limits are to be closed with its end, for how many seconds. `within`: permits of parts of the attempt that aren't over.
    """

    jid: str
    permit: Permit | None = None
    keep_result_s: int | None = None
    lock: str = ""
    record: Beside | None = None
    closes: tuple[tuple[str, ...], float] | None = None
    within: tuple[Permit, ...] = ()
    batch: str = ""
    entry: str = ""
    name: str = ""
    """Of a member whose result others in its batch may ask for."""
    told: Reported | None = None
    """How far it said it was."""
    finished: tuple[str, int, Finished] | None = None
    """Its class, of how many of which it is kept how they ended, and what is kept of this one."""
    log: LogLines | None = None
    """What the attempt has logged, as far as that is kept."""

    @property
    def wants_value(self) -> bool:
        """Whether it matters what the handler returns."""
        return self.keep_result_s is not None or bool(self.name)


def held_unread(payload: bytes, known: Held | None) -> Held | None:
    """What a job holds that ends before anybody has read it as a job, besides what is `known` of its attempt."""
    if b'"tw_' not in payload:
        return known
    holds = names_of_held(payload)
    if holds is None:
        return known
    jid = jid_in(holds, payload)
    lock = lock_in(holds.lock)
    key = "" if lock is None or lock.until == "spell" else lock.key
    batch, tick = batch_in(holds.batch), tick_in(holds.tick)
    permit = None if known is None else known.permit
    record = Kept() if beside(holds.record)[0] else None
    named, entry = "" if batch is None else batch.batch, "" if tick is None else tick.entry
    return Held(jid, permit, kept_s(holds.keep), key, record, batch=named, entry=entry)


def on_outcome(outcome: Outcome | Checkpoint | LetGo, held: Held | None) -> tuple[Effect, ...]:
    """What is to be done about what a job of ours and its attempt hold, now that the attempt ended so."""
    if held is None:
        return ()
    effects = on_end(outcome, held.jid, held.keep_result_s) + on_departure(outcome, held.permit)
    if held.record is not None:
        effects += on_record(outcome, held.jid, held.record)
    for permit in held.within:
        effects += on_departure(outcome, permit)
    if held.closes is not None:
        effects = (("close", *held.closes), *effects)
    if held.batch:
        effects += _on_membership(outcome, held)
    if held.told is not None or held.finished is not None or held.log is not None:
        effects += _on_look(outcome, held)
    if held.entry and (how := _how(outcome)) is not None:  # the history of a periodic job says how its runs ended
        effects += (("run", held.entry, held.jid, how),)
    return effects + _on_lock(outcome, held) if held.lock else effects


def on_report(held: Held) -> tuple[Effect, ...]:
    """What is to be written of how far a job is that goes on."""
    return () if held.told is None else (("progress", held.jid, encode_reported(held.told), RUNNING_S),)


def _on_look(outcome: Outcome | Checkpoint | LetGo, held: Held) -> tuple[Effect, ...]:
    """What is kept for people to look at."""
    how = _how(outcome)
    if isinstance(outcome, Checkpoint | LetGo):
        return ()
    effects = _on_log(how, held)
    if how is None:
        return effects + on_report(held)
    if held.told is not None:
        effects += (("progress", held.jid, encode_reported(held.told, how), ENDED_S),)
    if held.finished is not None:
        job_class, count, finished = held.finished
        effects += (("finished", job_class, count, encode_finished(msgspec.structs.replace(finished, how=how))),)
    return effects


def _on_log(how: Exit | None, held: Held) -> tuple[Effect, ...]:
    """Of an attempt that logged nothing nothing is written, and what an earlier one did stays."""
    text = b"" if held.log is None else held.log.encode()
    return (("log", held.jid, text, FAILED_S if how in (None, "dead") else LOG_S),) if text else ()


def _on_membership(outcome: Outcome | Checkpoint | LetGo, held: Held) -> tuple[Effect, ...]:
    """A member that has ended is counted in its batch, and what follows from that is sent."""
    how = _how(outcome)
    if isinstance(outcome, Acknowledge) and held.name:
        return (("member", held.batch, held.jid, "succeeded", held.name, outcome.value or b"null"),)
    if how is not None:
        return (("member", held.batch, held.jid, "expired" if how == "skipped" else how),)
    return () if isinstance(outcome, Checkpoint | LetGo) else (("moved", held.batch),)


def _how(outcome: Outcome | Checkpoint | LetGo) -> Exit | None:
    """How a job ends for good by an outcome; None if it doesn't."""
    match outcome:
        case Acknowledge():
            return "succeeded"
        case Bury():
            return "dead"
        case Discard():
            return "discarded"
        case Expire():
            return outcome.how
    return None


def _on_lock(outcome: Outcome | Checkpoint | LetGo, held: Held) -> tuple[Effect, ...]:
    """A job keeps its lock until it ends; that it moved is noted."""
    if isinstance(outcome, Checkpoint | LetGo):
        return ()
    ended = isinstance(outcome, Acknowledge | Bury | Discard | Expire)
    return (("unlock" if ended else "touch", held.lock, held.jid),)


def on_record(outcome: Outcome | Checkpoint | LetGo, jid: str, record: Beside) -> tuple[Effect, ...]:
    """What is to be done about what lies beside the payload of a job of ours: it stays as long as the job does, in the dead set, too."""
    match outcome:
        case LetGo():  # the job is another worker's
            return ()
        case Acknowledge() | Discard() | Expire():
            return (("steps", jid, (), 0),)
    new = tuple(part for pair in record.to_write.items() for part in pair)
    if isinstance(outcome, Bury):
        return (("steps", jid, new, DEAD_S),)
    return (("steps", jid, new, -1),) if new else ()


def on_end(outcome: Outcome | Checkpoint | LetGo, jid: str, keep_result_s: int | None) -> tuple[Effect, ...]:
    """What is to be done about what a job of ours holds whose attempt ended so; nothing if that isn't its end."""
    if keep_result_s is None:
        return ()
    match outcome:
        case Acknowledge():
            return (result(jid, keep_result_s, "succeeded", outcome.value or b"null"),)
        case Bury():
            return (result(jid, keep_result_s, "dead", error=_error(outcome.payload)),)
        case Discard():
            return (result(jid, keep_result_s, "discarded"),)
        case Expire(how):
            return (result(jid, keep_result_s, how),)
    return ()


def _error(payload: bytes) -> tuple[object, object]:
    holds = names_of_held(payload)
    return ("", "") if holds is None else (holds.error_class, holds.error_message)


def on_departure(outcome: Outcome | Checkpoint | LetGo, permit: Permit | None) -> tuple[Effect, ...]:
    """What is to be done about what an attempt holds that leaves its worker so.

    One that was put back is next in turn: its permits stay its own for a while. A checkpoint is no departure.
    """
    if permit is None or isinstance(outcome, Checkpoint):
        return ()
    kept_for = permit.jid if isinstance(outcome, Requeue) and not permit.within else ""
    return (("permit", permit.record, permit.member, permit.limits, kept_for),)
