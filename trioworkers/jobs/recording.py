"""What a running job has recorded of its steps and iterations, and what of that Redis has.

Results travel in the payload as long as they are few and small; what comes then lies beside it, in a hash that is written with the same
checkpoint or outcome and goes with the job.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import attrs
import msgspec

from trioworkers.wire.record import RECORD_FIELD, Recorded, encode_cursor, written_record

MAX_INSIDE_BYTES = 16 << 10
MAX_STEPS = 10_000
MAX_BESIDE_BYTES = 64 << 20
MAX_ITERATIONS = 16


@attrs.define(eq=False)
class Record:
    """One job's. `on_beside`: told before the first result is to lie beside the payload.

    `revision`: one more with every change; `saved`: the last one that Redis surely has. `unsaved`: results that have to be written beside the
    payload with whatever is written next. `used`, `iterations`: names that this attempt has had. `sources`: of iterations that are not through.
    """

    on_beside: Callable[[], None] | None = None
    steps: dict[str, msgspec.Raw] = attrs.field(factory=dict)
    cursors: dict[str, tuple[Any, bool]] = attrs.field(factory=dict)
    beside: int = 0
    beside_bytes: int = 0
    iterations: set[str] = attrs.field(factory=set)
    sources: list[AsyncIterator[Any]] = attrs.field(factory=list)
    unsaved: dict[str, msgspec.Raw] = attrs.field(factory=dict)
    used: set[str] = attrs.field(factory=set)
    revision: int = 0
    saved: int = 0
    unsaved_bytes: int = 0
    _inside_bytes: int = 0

    @classmethod
    def of(cls, recorded: Recorded | None, on_beside: Callable[[], None] | None) -> Record:
        """What the payload brought from earlier attempts."""
        if recorded is None:
            return cls(on_beside)
        size = sum(len(name) + len(bytes(value)) for name, value in recorded.steps.items())
        return cls(
            on_beside,
            dict(recorded.steps),
            dict(recorded.cursors),
            recorded.beside,
            recorded.beside_bytes,
            inside_bytes=size,
        )

    def use(self, name: str) -> None:
        """A step is about to be taken. Raises ValueError for a name that this attempt has had already, TypeError for none."""
        check_name("step", name)
        if name in self.used:
            raise ValueError(f"this job has a step named {name!r} already; names tell a later attempt what was done")
        if len(self.used) >= MAX_STEPS:
            raise ValueError(f"a job has {MAX_STEPS:,} steps at most; make it several jobs, or iterate")
        self.used.add(name)

    def add(self, name: str, result: msgspec.Raw) -> None:
        """A step is done. Raises ValueError if there is no room for what it returned."""
        size = len(name.encode()) + len(bytes(result))
        if self._inside_bytes + size <= MAX_INSIDE_BYTES:
            self._inside_bytes += size
            self.steps[name] = result
        else:
            if self.beside_bytes + size > MAX_BESIDE_BYTES:
                raise ValueError(
                    f"the steps of a job may return {MAX_BESIDE_BYTES >> 20} MB in all; make it several jobs"
                )
            if self.on_beside is not None:
                self.on_beside()
            self.unsaved[name] = result
            self.unsaved_bytes += size
            self.beside += 1
            self.beside_bytes += size
        self.revision += 1

    def move(self, name: str, cursor: Any, *, over: bool = False) -> None:
        """An iteration is past this. Raises BadResult if that has no form in JSON: then it stays where it was."""
        self.cursors[name] = encode_cursor(name, cursor), over
        self.revision += 1

    def fields(self) -> dict[str, Any]:
        """The payload's fields for the next attempt; none without news."""
        if not self.revision:
            return {}
        return {RECORD_FIELD: written_record(Recorded(self.steps, self.cursors, self.beside, self.beside_bytes))}

    def write(self) -> tuple[int, tuple[str, ...]]:
        """What a write that begins now brings to Redis: for `wrote`."""
        return self.revision, tuple(self.unsaved)

    def wrote(self, written: tuple[int, tuple[str, ...]]) -> None:
        """Redis has it."""
        self.saved, names = max(self.saved, written[0]), written[1]
        for name in names:
            result = self.unsaved.pop(name, None)
            if result is not None:
                self.unsaved_bytes -= len(name.encode()) + len(bytes(result))

    async def aclose(self) -> None:
        """Close the sources of iterations that are not through."""
        while self.sources:
            source = self.sources.pop()
            if (close := getattr(source, "aclose", None)) is not None:  # a generator's; others have nothing to close
                await close()

    @property
    def to_write(self) -> Mapping[str, bytes]:
        """The results that go beside the payload with the next write."""
        return {name: bytes(result) for name, result in self.unsaved.items()}


MAX_NAME = 200


def check_name(what: str, name: object) -> None:
    """Raise TypeError or ValueError for a name that can't travel in a payload."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"a {what}'s name is a text, which travels in the job's payload, not {name!r:.80}")
    if len(name) > MAX_NAME or (not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)):
        raise ValueError(f"a {what}'s name has at most {MAX_NAME} characters, all of them in UTF-8: not {name!r:.80}")
