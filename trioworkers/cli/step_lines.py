"""What `export` and `import` do about results of steps that lie beside a payload: lines of their own, before that of their job."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping

import attrs
import msgspec

from trioworkers.broker.people.restoring import restore_steps
from trioworkers.cli.session import Session
from trioworkers.errors import BadPayload
from trioworkers.wire.decode import jid_of
from trioworkers.wire.record import MAX_STEP_BYTES, record_in

LINE_BYTES = 200_000
_BEGIN = re.compile(rb'\s*\{\s*"in"\s*:\s*"steps"')


class _Line(msgspec.Struct, rename={"place": "in"}):
    place: str
    jid: str
    results: dict[str, str]


@attrs.frozen
class StepLine:
    """Some results of one job's steps, by name: JSON."""

    jid: str
    results: Mapping[str, str]


def is_steps(line: bytes) -> bool:
    """Whether a line is about steps; what is no line at all is for others to refuse."""
    return _BEGIN.match(line) is not None


def decode_line(line: bytes) -> StepLine:
    """Raises BadPayload, which says what is wrong with it."""
    try:
        found = msgspec.json.decode(line, type=_Line)
        for text in found.results.values():
            _check_result(text)
    except (ValueError, RecursionError) as error:
        raise BadPayload(f"no results of steps: {error}") from None
    if not found.jid or not found.results:
        raise BadPayload("no results of steps: without a jid, or without results")
    return StepLine(found.jid, found.results)


def _check_result(text: str) -> None:
    """Raises ValueError for what no step of ours can have returned."""
    if len(text) > MAX_STEP_BYTES:
        raise ValueError("one of them is too large")
    try:
        msgspec.json.decode(text)
    except RecursionError as error:
        raise ValueError("one of them is nested too deeply") from error


async def lines_of(session: Session, payload: bytes) -> AsyncGenerator[bytes, None]:
    """The lines for one job; none for nearly all. What nobody of ours has written there is left out."""
    recorded = record_in(payload)
    if recorded is None or not recorded.beside:
        return
    jid, results, size = jid_of(payload), dict[str, str](), 0
    cursor, read = None, session.connection.commands("export")
    while cursor != 0:
        cursor, page = await read.hscan(session.keys.steps(jid), cursor, 20)
        for name, text in page.items():
            try:
                shown, result = name.decode(), text.decode()
                _check_result(result)
            except ValueError:
                continue
            results[shown] = result
            size += len(name) + len(text)
            if size > LINE_BYTES:
                yield _encoded(jid, results)
                results, size = {}, 0
    if results:
        yield _encoded(jid, results)


def _encoded(jid: str, results: dict[str, str]) -> bytes:
    return msgspec.json.encode(_Line("steps", jid, results)) + b"\n"


async def restore(session: Session, line: StepLine) -> None:
    """Put them back; what is there stays. Raises BrokerError."""
    await restore_steps(session.connection, session.keys, line.jid, line.results)
