"""What a shell may complete of what is in Redis now: silent whatever goes wrong, and bounded, for somebody waits at a prompt."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress

from trioworkers.broker.people.contents import FIRST_PAGE
from trioworkers.broker.people.inspection import Inspector
from trioworkers.cli.session import Session, in_session
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location, sets

PATIENCE_S = 1.0

_PLAIN = re.compile(r"[A-Za-z0-9_.:@/-]+")
"""Shells expand or even evaluate what they are given here, and it is other people's bytes: whoever is called otherwise is left out."""

Find = Callable[[Session], Awaitable[Iterable[str]]]

LOOKS = 3
"""In which fifty come, where jobs are small."""


def suggest(find: Find, redis: str | None, namespace: str | None) -> list[str]:
    """What `find` finds in time, sorted; nothing if Redis is away."""
    if (redis or os.environ.get("REDIS_URL") or "").startswith("embedded:"):
        return []  # nothing is started for the sake of a completion
    found: list[str] = []

    async def look(session: Session) -> None:
        found.extend(await find(session))

    def run() -> None:
        with suppress(Exception, SystemExit):
            in_session(look, redis, namespace)

    # A thread, for not even the name server may hold us up, and it can be left behind.
    thread = threading.Thread(target=run, name="trioworkers-suggestions", daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return sorted({name for name in found if _PLAIN.fullmatch(name)})


async def queues(session: Session) -> list[str]:
    """Those that exist, are served or paused."""
    served = [name for process in await session.inspector.processes() for name in process.queues]
    return [*await session.inspector.queue_names(), *served, *await paused_queues(session)]


async def paused_queues(session: Session) -> list[str]:
    """Those that can be resumed."""
    return list((await session.fleet.paused()).queues)


async def limits(session: Session) -> list[str]:
    """Those that are known."""
    from trioworkers.broker.people.limits import FleetLimits  # noqa: PLC0415 - seldom needed

    return [state.name for state in (await FleetLimits(session.connection, session.keys).look()).limits]


async def periodic(session: Session) -> list[str]:
    """The names of periodic jobs."""
    from trioworkers.broker.people.periodic import PeriodicJobs  # noqa: PLC0415 - seldom needed

    return [entry.name for entry in await PeriodicJobs(session.connection, session.keys).entries()]


async def places(session: Session) -> list[str]:
    """What `--in` and `export` take."""
    return [*(each.name for each in sets()), *(f"queue:{name}" for name in await session.inspector.queue_names())]


async def classes(session: Session) -> list[str]:
    """Those of the jobs that are in front wherever jobs are."""
    return [entry.job_class for entry in await _in_front(session.inspector)]


async def paused_classes(session: Session) -> list[str]:
    """Those that can be resumed."""
    return list((await session.fleet.paused()).classes)


async def jids(session: Session) -> list[str]:
    """Those of the jobs that are in front wherever jobs are."""
    return [entry.jid for entry in await _in_front(session.inspector)]


async def running_jids(session: Session) -> list[str]:
    """What can be cancelled."""
    return [entry.jid for entry in await _running(session.inspector)]


async def processes(session: Session) -> list[str]:
    """By process id, or identity where they have none."""
    return [process.process_id or process.identity for process in await session.inspector.processes()]


async def _in_front(inspector: Inspector) -> list[Entry]:
    """The first few dozen of each: more is not worth the time."""
    entries = await _running(inspector)
    for source in [
        *(Location(each.name) for each in sets()),
        *(Location("queue", name) for name in await inspector.queue_names()),
    ]:
        async with aclosing(inspector.pages(source)) as pages:
            looks = 0
            async for page in pages:
                entries += page
                looks += 1
                if looks == LOOKS:
                    break
    return entries


async def _running(inspector: Inspector) -> list[Entry]:
    running = [await inspector.running(process, FIRST_PAGE) for process in await inspector.processes()]
    return [job.entry for jobs in running for job in jobs]
