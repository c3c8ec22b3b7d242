"""What `export cron` and `import` do: periodic jobs that live in Redis only, as JSON lines, and in again. Those of code travel with the code."""

from __future__ import annotations

import re
from typing import IO, Literal

import attrs
import msgspec

from trioworkers.broker.people.periodic import PeriodicJobs
from trioworkers.cli.session import Session
from trioworkers.cli.tables import remark
from trioworkers.errors import BadJob, BadPayload, ConfigurationError
from trioworkers.wire.periodic import Periodic, decode_entry, is_own_name
from trioworkers.wording import counted

_BEGIN = re.compile(rb'\s*\{\s*"in"\s*:\s*"cron"')


class _Line(msgspec.Struct, rename={"place": "in"}):
    place: Literal["cron"]
    name: str
    entry: msgspec.Raw
    paused: bool = False


@attrs.frozen
class PeriodicLine:
    """One line: an entry, and whether it was paused."""

    entry: Periodic
    paused: bool


def is_periodic(line: bytes) -> bool:
    """Whether a line is about a periodic job; what is no line at all is for others to refuse."""
    return _BEGIN.match(line) is not None


def decode_line(line: bytes) -> PeriodicLine:
    """Raises BadPayload, which says what is wrong with it."""
    try:
        found = msgspec.json.decode(line, type=_Line)
        entry = decode_entry(found.name, bytes(found.entry))
    except (ValueError, RecursionError) as error:
        raise BadPayload(f"no periodic job: {error}") from None
    if not is_own_name(found.name):
        raise BadPayload(f"no periodic job that lives in Redis only is called {found.name!r:.80}")
    return PeriodicLine(entry, found.paused)


async def export(session: Session, sink: IO[bytes]) -> None:
    """Write them, a line each. What can't be read is said, and left out."""
    found = await PeriodicJobs(session.connection, session.keys).entries()
    own = [state for state in found if state.origin == "dynamic"]
    lines = [
        _Line("cron", state.name, msgspec.Raw(state.definition), state.paused)
        for state in own
        if state.entry is not None
    ]
    sink.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
    remark(f"{counted(len(lines), 'periodic job')} written")
    if len(own) > len(lines):
        remark(f"{counted(len(own) - len(lines), 'periodic job')} left out that can't be read: see `trioworkers cron`")
    if len(found) > len(own):
        remark(f"{counted(len(found) - len(own), 'periodic job')} left out that code declares: it brings them")


async def restore(session: Session, line: PeriodicLine) -> bool:
    """Put one back; whether it was put. One of that name that is there stays as it is. Raises ConfigurationError for one that can't be."""
    try:
        answer = await PeriodicJobs(session.connection, session.keys).restore(line.entry, paused=line.paused)
    except BadJob as error:
        raise ConfigurationError(f"periodic job {line.entry.name}: {error}") from None
    if answer == "CODE":
        remark(f"{line.entry.name}: code declares a periodic job of this name, which stays")
    return answer == "OK"
