"""What `export` and `import` do: jobs out as JSON lines, and in again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO

import attrs

from trioworkers.cli import periodic_lines, step_lines
from trioworkers.cli.periodic_lines import PeriodicLine
from trioworkers.cli.session import Session
from trioworkers.cli.step_lines import StepLine
from trioworkers.cli.tables import number, remark, say
from trioworkers.cli.where import Where
from trioworkers.errors import BadPayload, ConfigurationError, WrongUsage
from trioworkers.wire.by_operator import decode_entry, encode_entry
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.places import Location, parse_location, places_for
from trioworkers.wording import counted

_Group = list[Entry] | PeriodicLine | StepLine
GROUP = 500
GROUP_BYTES = 4_000_000


def location_of(text: str) -> Location:
    """`retry`, `queue:NAME` or any other place that can be exported. Raises WrongUsage."""
    allowed = places_for("export")
    location = parse_location(text, allowed)
    if location is None or (location.queue and check_sent_to(location.queue)):
        raise WrongUsage(f"{text!r} is none of {', '.join(place.shown for place in allowed)}")
    return location


async def export(session: Session, source: Location, where: Where, sink: IO[bytes]) -> None:
    """Write what matches, a line each."""
    now_s, count = await session.inspector.now_s(), 0
    async with aclosing(session.inspector.pages(source)) as pages:
        async for page in pages:
            for entry in page:
                if where.matches(entry, now_s):
                    async with aclosing(step_lines.lines_of(session, entry.payload)) as steps:
                        async for line in steps:
                            sink.write(line)
                    sink.write(encode_entry(entry) + b"\n")
                    count += 1
    sink.flush()
    remark(f"{counted(count, 'job')} of {source} written")


async def export_periodic(session: Session, sink: IO[bytes]) -> None:
    """Write the periodic jobs that live in Redis only."""
    await periodic_lines.export(session, sink)
    sink.flush()


@contextmanager
def sink_for(output: Path | None) -> Iterator[IO[bytes]]:
    """Where lines go, of all shards: a file that is there when it is complete, or standard output. Raises ConfigurationError if the file can't be written."""
    if output is None:
        yield sys.stdout.buffer
        return
    unfinished = output.with_name(f"{output.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(output)
    except OSError as error:
        raise ConfigurationError(f"{output}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)  # there only if we were interrupted


@attrs.define
class _Imported:
    """What has come of an import so far."""

    seen: int = 0
    added: int = 0
    periodic: int = 0
    periodic_seen: int = 0
    without_lock: list[tuple[str, str]] = attrs.field(factory=list)

    def tell(self) -> None:
        there = f", {number(self.seen - self.added)} there already" if self.seen - self.added else ""
        if self.seen or not self.periodic_seen:
            say(f"{counted(self.added, 'job')} imported{there}")
        if self.periodic_seen:
            left = self.periodic_seen - self.periodic
            there = f", {number(left)} there already" if left else ""
            say(f"{counted(self.periodic, 'periodic job')} imported{there}")
        if self.without_lock:
            jid, holder = self.without_lock[0]
            remark(
                f"{counted(len(self.without_lock), 'unique job')} came back without the lock, which another one has "
                f"({jid}: {holder}): when it is fetched it runs if that has ended by then, else it goes to dead"
            )


async def import_(session: Session, file: str) -> None:
    """Put back what is in a file. Raises ConfigurationError at a bad line; what stands before it is put back."""
    done = _Imported()
    with _source(file) as lines:
        try:
            for first, group in _groups(lines):
                await _put_back(session, first, group, done)
        except BadPayload as error:
            raise ConfigurationError(f"{file}: {error}") from None
        finally:
            done.tell()


async def _put_back(session: Session, first: int, group: _Group, done: _Imported) -> None:
    if isinstance(group, StepLine):
        await step_lines.restore(session, group)
        return
    if isinstance(group, PeriodicLine):
        done.periodic_seen += 1
        done.periodic += await periodic_lines.restore(session, group)
        return
    source = Location(group[0].place, group[0].list_queue)
    done.seen += len(group)
    restored = await session.actions.restore(source, group, str(first))
    done.added += restored.added
    done.without_lock += restored.without_lock


@contextmanager
def _source(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as lines:
            yield lines
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error


def _groups(lines: Iterable[bytes]) -> Iterator[tuple[int, _Group]]:
    """Lines that go to one place, together, with the number of the first; a periodic job, and results of steps, by themselves. The same file always makes the same groups.

    Raises BadPayload.
    """
    group: list[Entry] = []
    size, first = 0, 1
    for count, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = _decoded(line)
        except BadPayload as error:
            # What is collected is left, too: once the line is mended, the group shall be the one that it would have been.
            raise BadPayload(
                f"line {count}: {error}; nothing from line {first if group else count} on is imported"
            ) from None
        if group and _is_full(group, size, entry):
            yield first, group
            group, size = [], 0
        if isinstance(entry, PeriodicLine | StepLine):
            yield count, entry
            continue
        if not group:
            first = count
        group.append(entry)
        size += len(entry.payload)
    if group:
        yield first, group


def _decoded(line: bytes) -> Entry | PeriodicLine | StepLine:
    if periodic_lines.is_periodic(line):
        return periodic_lines.decode_line(line)
    return step_lines.decode_line(line) if step_lines.is_steps(line) else decode_entry(line)


def _is_full(group: list[Entry], size: int, entry: Entry | PeriodicLine | StepLine) -> bool:
    """Whether what follows begins another one."""
    if isinstance(entry, PeriodicLine | StepLine) or (group[0].place, group[0].list_queue) != (
        entry.place,
        entry.list_queue,
    ):
        return True
    return len(group) == GROUP or size + len(entry.payload) > GROUP_BYTES
