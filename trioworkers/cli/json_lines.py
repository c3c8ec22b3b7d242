"""What `export` and `import` do: jobs out as JSON lines, and in again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO

from trioworkers.cli.session import Session
from trioworkers.cli.tables import number, remark, say
from trioworkers.cli.where import Where
from trioworkers.errors import BadPayload, ConfigurationError, WrongUsage
from trioworkers.wire.by_operator import decode_entry, encode_entry
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.places import Location, parse_location, places_for
from trioworkers.wording import counted

GROUP = 500
GROUP_BYTES = 4_000_000


def location_of(text: str) -> Location:
    """`retry`, `queue:NAME` or any other place that can be exported. Raises WrongUsage."""
    allowed = places_for("export")
    location = parse_location(text, allowed)
    if location is None or (location.queue and check_sent_to(location.queue)):
        raise WrongUsage(f"{text!r} is none of {', '.join(place.shown for place in allowed)}")
    return location


async def export(session: Session, source: Location, where: Where, output: Path | None) -> None:
    """Write what matches, a line each. Raises ConfigurationError if the file can't be written."""
    now_s, count = await session.inspector.now_s(), 0
    with _sink(output) as sink:
        async with aclosing(session.inspector.pages(source)) as pages:
            async for page in pages:
                chosen = [entry for entry in page if where.matches(entry, now_s)]
                sink.writelines(encode_entry(entry) + b"\n" for entry in chosen)
                count += len(chosen)
        sink.flush()
    remark(f"{counted(count, 'job')} of {source} written")


@contextmanager
def _sink(output: Path | None) -> Iterator[IO[bytes]]:
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


async def import_(session: Session, file: str) -> None:
    """Put back what is in a file. Raises ConfigurationError at a bad line; what stands before it is put back."""
    seen = added = 0
    with _source(file) as lines:
        try:
            for first, group in _groups(lines):
                source = Location(group[0].place, group[0].list_queue)
                added += await session.actions.restore(source, group, str(first))
                seen += len(group)
        except BadPayload as error:
            raise ConfigurationError(f"{file}: {error}") from None
        finally:
            there = f", {number(seen - added)} there already" if seen - added else ""
            say(f"{counted(added, 'job')} imported{there}")


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


def _groups(lines: Iterable[bytes]) -> Iterator[tuple[int, list[Entry]]]:
    """Lines that go to one place, together, with the number of the first. The same file always makes the same groups.

    Raises BadPayload.
    """
    group: list[Entry] = []
    size, first = 0, 1
    for count, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = decode_entry(line)
        except BadPayload as error:
            # What is collected is left, too: once the line is mended, the group shall be the one that it would have been.
            raise BadPayload(
                f"line {count}: {error}; nothing from line {first if group else count} on is imported"
            ) from None
        size += len(entry.payload)
        same = not group or (group[0].place, group[0].list_queue) == (entry.place, entry.list_queue)
        if group and (not same or len(group) == GROUP or size > GROUP_BYTES):
            yield first, group
            group, size = [], len(entry.payload)
        if not group:
            first = count
        group.append(entry)
    if group:
        yield first, group
