"""Looks at what jobs leave behind for people: how far one says it is, how it ended, how the last ones of a class did."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from trioworkers.broker.people.session import Session
from trioworkers.errors import Refused
from trioworkers.wire.ended import Ended, decode_ended
from trioworkers.wire.log_lines import MAX_BYTES, LogLine, decode_log
from trioworkers.wire.reported import MAX_FINISHED, Finished, Reported, decode_finished, decode_reported


async def look_at(session: Session, jid: str) -> tuple[Reported | None, Ended | None]:
    """How far a job says it is, and how it ended, as far as either is kept. Raises BrokerError."""
    told, ended = await session.connection.commands("watch").mget(
        [session.keys.progress(jid), session.keys.result(jid)]
    )
    return None if told is None else decode_reported(told), None if ended is None else decode_ended(ended)


async def kept_log(session: Session, jid: str) -> Sequence[LogLine]:
    """The last log lines of a job's last attempt that has ended, as far as they are kept. Raises BrokerError."""
    # So much and no more: what is longer isn't ours.
    text = await session.connection.commands("show").execute("GETRANGE", session.keys.log(jid), 0, MAX_BYTES)
    return decode_log(bytes(text))


async def finished_classes(session: Session) -> list[str]:
    """The classes of which it is kept how jobs ended; those of which nothing is left are forgotten. Raises BrokerError."""
    commands = session.connection.commands("finished")
    classes = await commands.smembers(session.keys.finished_classes)
    lengths = [await commands.llen(session.keys.finished(each)) for each in classes]
    gone = [each for each, length in zip(classes, lengths, strict=True) if not length]
    if gone:
        with suppress(Refused):  # a replica, say: it is only tidied up
            await commands.srem(session.keys.finished_classes, gone)
    return [each for each in classes if each not in gone]


async def finished(session: Session, job_class: str, limit: int) -> Sequence[Finished]:
    """How the last jobs of a class ended, the newest first. Raises BrokerError."""
    key = session.keys.finished(job_class)
    entries = await session.connection.commands("finished").lrange(key, 0, (limit or MAX_FINISHED) - 1)
    return [found for entry in entries if (found := decode_finished(entry)) is not None]
