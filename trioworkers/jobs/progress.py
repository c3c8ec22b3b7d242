"""How far a job is: which calls of its fan-outs need not be made again, in this attempt or a later one, and what its steps and iterations recorded.

It travels in the payload, which must not become too large for it whatever the calls are named and however many they are. So names are
written in full, and failures with their reasons, as long as they are few; of others the payload has eight bytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

import attrs
import msgspec
import trio

from trioworkers.errors import CallFailed, NotRecorded
from trioworkers.jobs.recording import Record
from trioworkers.wire.digests import DIGEST_BYTES, digest, pack
from trioworkers.wire.job import DONE_PACKED_FIELD, FAILED_FIELD, FAILED_PACKED_FIELD, PROGRESS_FIELD, Job
from trioworkers.wire.log_lines import LogLines
from trioworkers.wire.record import Recorded
from trioworkers.wire.reported import Reported

READABLE_BYTES = 32 << 10
"""For names in full and reasons."""
MAX_CALLS = 25_000
"""What a job may remember of its calls, over all its attempts: 333 KB when packed. More is for several jobs."""
MAX_PROGRESS_BYTES = READABLE_BYTES + MAX_CALLS * DIGEST_BYTES * 4 // 3 + 200
MAX_REASON = 300

_json = msgspec.json.encode


class Attempt(Protocol):
    """The attempt that makes the progress, as its worker sees it."""

    @property
    def is_stopping(self) -> bool:
        """Whether the worker stops: who can go on elsewhere should leave."""

    @property
    def was_taken_over(self) -> bool:
        """Whether another worker has the job meanwhile."""

    def hold(self) -> None:
        """From now on there is something beside the payload, which goes with the job."""

    def report(self, told: Reported) -> None:
        """Have people see how far it is."""

    def keep_log(self, lines: LogLines) -> None:
        """Keep for people what the attempt logs."""

    def leave(self, *, to_others: bool = False) -> None:
        """End the attempt here, uncounted: the job is put back with its progress. `to_others`: behind those that wait."""


def _saved_with_the_outcome() -> trio.Event:
    saved = trio.Event()
    saved.set()
    return saved


class _Names:
    """Names that a payload remembers in full or packed."""

    def __init__(self, packed: bytes = b"") -> None:
        self.packed = bytearray(packed)
        self.digests = (
            {packed[at : at + DIGEST_BYTES] for at in range(0, len(packed), DIGEST_BYTES)} if packed else set()
        )

    def __contains__(self, name: str) -> bool:
        return digest(name) in self.digests

    def __len__(self) -> int:
        return len(self.digests)

    def add(self, name: str) -> None:
        short = digest(name)
        self.digests.add(short)
        self.packed += short

    def forget(self, names: Collection[str]) -> None:
        gone = {digest(name) for name in names} & self.digests
        if gone:
            self.digests -= gone
            size = DIGEST_BYTES
            kept = (bytes(self.packed[at : at + size]) for at in range(0, len(self.packed), size))
            self.packed = bytearray(b"".join(one for one in kept if one not in gone))


@attrs.define(eq=False)
class Progress:
    """How far a job is, over all attempts: names of calls done, names of those that failed for good with their reasons, the `record` of steps and iterations, which few have.

    `attempt`: none where nothing can be left. `recorded_before`: what the payload brought of the record. `row_before`: the names of the calls of an iteration's last row. `got_further`: whether rows were done
    after which failures are counted anew.
    """

    done: list[str] = attrs.field(factory=list)
    failed: dict[str, str] = attrs.field(factory=dict)
    used: set[str] = attrs.field(factory=set)
    changed: bool = False
    save: Callable[[], trio.Event] = _saved_with_the_outcome
    attempt: Attempt | None = attrs.field(default=None, repr=False)
    record: Record | None = None
    recorded_before: Recorded | None = attrs.field(default=None, repr=False)
    row_before: Collection[str] = attrs.field(default=(), repr=False)
    got_further: bool = False
    done_packed: _Names = attrs.field(factory=_Names, repr=False)
    failed_packed: _Names = attrs.field(factory=_Names, repr=False)
    _done: set[str] = attrs.field(factory=set, init=False, repr=False)
    _left_bytes: int = attrs.field(default=READABLE_BYTES, init=False, repr=False)
    _expected: int = attrs.field(default=0, init=False, repr=False)
    _brought: int = attrs.field(default=0, init=False, repr=False)
    _row: list[str] | None = attrs.field(default=None, init=False, repr=False)
    _open_rows: int = attrs.field(default=0, init=False, repr=False)

    @classmethod
    def of(
        cls,
        job: Job,
        save: Callable[[], trio.Event],
        attempt: Attempt | None = None,
    ) -> Progress:
        """What the payload brought from earlier attempts. `save`: hands in a checkpoint, tells when it is written."""
        return cls(
            list(job.progress),
            dict(job.failed_calls),
            save=save,
            attempt=attempt,
            recorded_before=job.recorded,
            done_packed=_Names(job.done_packed),
            failed_packed=_Names(job.failed_packed),
        )

    def __attrs_post_init__(self) -> None:
        if not (self.done or self.failed or self.done_packed.digests or self.failed_packed.digests):
            return  # as most jobs are, which are in their first attempt
        done, failed, changed, self.done, self.failed = self.done, self.failed, self.changed, [], {}
        for name in done:
            self.finished(name)
        for name, reason in failed.items():
            self._keep_failure(name, reason)
        self.changed = changed
        self._brought = self._expected = (
            len(self.done) + len(self.failed) + len(self.done_packed) + len(self.failed_packed)
        )

    def fields(self) -> dict[str, Any]:
        """The payload's fields for the next attempt; none, so that the payload stays as it is, without news."""
        recorded = {} if self.record is None else self.record.fields()
        if not self.changed:
            return recorded
        fields: dict[str, Any] = {**recorded, PROGRESS_FIELD: self.done or None, FAILED_FIELD: self.failed or None}
        if self.done_packed:
            fields[DONE_PACKED_FIELD] = pack(self.done_packed.packed)
        if self.failed_packed:
            fields[FAILED_PACKED_FIELD] = pack(self.failed_packed.packed)
        return fields

    def open_record(self) -> Record:
        """The record, for a step or an iteration."""
        if self.record is None:
            hold = None if self.attempt is None else self.attempt.hold
            self.record = Record.of(self.recorded_before, hold)
        return self.record

    async def recorded(self, record: Record, what: str) -> None:
        """Wait until Redis has the record as it is now; an outage is waited out. Raises NotRecorded. Cancelled: it goes with the outcome."""
        wanted = record.revision
        await self.save().wait()
        if record.saved < wanted:
            raise NotRecorded(f"{what} is done, and could not be recorded; the log says why")

    def expect(self, name: str) -> bool:
        """A call is about to be made under this name, for the first time in this attempt. Whether it is to be made at all.

        Raises ValueError if there is no room to remember it.
        """
        self.used.add(name)
        if self._row is not None:
            self._row.append(name)
        if self._brought and (self.is_done(name) or self.reason_of_failure(name) is not None):
            return False
        if self._expected >= MAX_CALLS:
            raise ValueError(
                f"a job remembers {MAX_CALLS:,} calls at most, over all its attempts; make it several jobs"
            )
        self._expected += 1
        return True

    def finished(self, name: str) -> bool:
        """A call is done. Whether that is news."""
        if self.is_done(name):
            return False
        if self._has_room_for(_json(name)):
            self._done.add(name)
            self.done.append(name)
        else:
            self.done_packed.add(name)
        self.changed = True
        return True

    def is_done(self, name: str) -> bool:
        """Whether a call is done, in this attempt or an earlier one."""
        return name in self._done or (bool(self.done_packed.digests) and name in self.done_packed)

    def gave_up(self, failure: CallFailed) -> None:
        """A call failed for good."""
        try:  # whatever a service or a handler wrote there: it has to have a form in the payload
            reason = str(failure.reason)[:MAX_REASON]
        except Exception:  # noqa: BLE001 - and be readable at all
            reason = "no readable reason"
        self._keep_failure(failure.name, reason.encode(errors="replace").decode())
        self.changed = True

    def reason_of_failure(self, name: str) -> str | None:
        """Why a call failed for good in an earlier attempt, if it did."""
        if name in self.failed_packed:
            return "failed for good in an earlier attempt"
        return self.failed.get(name)

    # ── rows of an iteration ───────────────────────────────────────────────────────────────────────────────────────────

    def begin_row(self) -> None:
        """A row of an iteration is begun. Of one, names are only remembered until it is done, for its cursor says so then."""
        self._open_rows += 1
        self._row = [] if self._open_rows == 1 else None  # of rows within rows nobody knows whose call it is

    def end_row(self) -> None:
        """It is done."""
        self._open_rows -= 1
        names, self._row = self._row, None
        if names:
            self._forget(names)
        if names is not None:
            self.row_before = frozenset(names)

    def _forget(self, names: Collection[str]) -> None:
        gone = set(names)
        self.used -= gone
        self._expected -= len(gone)
        for name in gone & self._done:
            self._left_bytes += len(_json(name)) + 1
        for name in gone & self.failed.keys():
            self._left_bytes += len(_json({name: self.failed.pop(name)})) + 1
        self._done -= gone
        self.done = [name for name in self.done if name not in gone]
        self.done_packed.forget(gone)
        self.failed_packed.forget(gone)
        self.changed = True

    def _keep_failure(self, name: str, reason: str) -> None:
        if name in self.failed or name in self.failed_packed:
            return
        if self._has_room_for(_json({name: reason})):
            self.failed[name] = reason
        else:
            self.failed_packed.add(name)

    def _has_room_for(self, encoded: bytes) -> bool:
        if len(encoded) + 1 > self._left_bytes:
            return False
        self._left_bytes -= len(encoded) + 1
        return True
