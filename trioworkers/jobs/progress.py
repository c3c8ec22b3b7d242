"""How far a job's fan-outs are: which calls need not be made again, in this attempt or a later one.

It travels in the payload, which must not become too large for it whatever the calls are named and however many they are. So names are
written in full, and failures with their reasons, as long as they are few; of others the payload has eight bytes each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import trio

from trioworkers.errors import CallFailed
from trioworkers.wire.digests import DIGEST_BYTES, digest, pack
from trioworkers.wire.job import DONE_PACKED_FIELD, FAILED_FIELD, FAILED_PACKED_FIELD, PROGRESS_FIELD, Job

READABLE_BYTES = 32 << 10
"""For names in full and reasons."""
MAX_CALLS = 25_000
"""What a job may remember of its calls, over all its attempts: 333 KB when packed. More is for several jobs."""
MAX_PROGRESS_BYTES = READABLE_BYTES + MAX_CALLS * DIGEST_BYTES * 4 // 3 + 200
MAX_REASON = 300

_json = msgspec.json.encode


def _saved_with_the_outcome() -> trio.Event:
    saved = trio.Event()
    saved.set()
    return saved


class _Names:
    """Names that a payload remembers in full or packed."""

    def __init__(self, packed: bytes = b"") -> None:
        self.packed = bytearray(packed)
        self.digests = {packed[at : at + DIGEST_BYTES] for at in range(0, len(packed), DIGEST_BYTES)}

    def __contains__(self, name: str) -> bool:
        return digest(name) in self.digests

    def __len__(self) -> int:
        return len(self.digests)

    def add(self, name: str) -> None:
        short = digest(name)
        self.digests.add(short)
        self.packed += short


@attrs.define(eq=False)
class Progress:
    """How far a job's fan-outs are, over all attempts: names done, and names failed for good with their reasons."""

    done: list[str] = attrs.field(factory=list)
    failed: dict[str, str] = attrs.field(factory=dict)
    used: set[str] = attrs.field(factory=set)
    changed: bool = False
    save: Callable[[], trio.Event] = _saved_with_the_outcome
    done_packed: _Names = attrs.field(factory=_Names, repr=False)
    failed_packed: _Names = attrs.field(factory=_Names, repr=False)
    _done: set[str] = attrs.field(factory=set, init=False, repr=False)
    _left_bytes: int = attrs.field(default=READABLE_BYTES, init=False, repr=False)
    _expected: int = attrs.field(default=0, init=False, repr=False)
    _brought: int = attrs.field(default=0, init=False, repr=False)

    @classmethod
    def of(cls, job: Job, save: Callable[[], trio.Event]) -> Progress:
        """What the payload brought from earlier attempts. `save`: hands in a checkpoint, tells when it is written."""
        return cls(
            list(job.progress),
            dict(job.failed_calls),
            save=save,
            done_packed=_Names(job.done_packed),
            failed_packed=_Names(job.failed_packed),
        )

    def __attrs_post_init__(self) -> None:
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
        if not self.changed:
            return {}
        fields: dict[str, Any] = {PROGRESS_FIELD: self.done or None, FAILED_FIELD: self.failed or None}
        if self.done_packed:
            fields[DONE_PACKED_FIELD] = pack(self.done_packed.packed)
        if self.failed_packed:
            fields[FAILED_PACKED_FIELD] = pack(self.failed_packed.packed)
        return fields

    def expect(self, name: str) -> bool:
        """A call is about to be made under this name, for the first time in this attempt. Whether it is to be made at all.

        Raises ValueError if there is no room to remember it.
        """
        self.used.add(name)
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
