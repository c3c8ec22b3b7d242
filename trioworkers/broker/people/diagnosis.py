"""Everything that `trioworkers doctor` asks of a Redis, finding by finding. Changes nothing there."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

import trio

from trioworkers.broker.checks import (
    Finding,
    check_eviction,
    check_persistence,
    check_role,
    check_version,
    read_info,
    saves_snapshots,
)
from trioworkers.broker.people.fleet_control import FleetControl
from trioworkers.broker.people.hold_findings import late_findings, lock_findings
from trioworkers.broker.people.inspection import Inspector
from trioworkers.broker.people.key_findings import key_findings
from trioworkers.broker.people.limit_findings import limit_findings
from trioworkers.broker.people.outboxes import outbox_findings
from trioworkers.broker.people.periodic import PeriodicJobs
from trioworkers.broker.people.permissions import forbidden
from trioworkers.broker.people.process_findings import heartbeat_findings, is_gone
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import BrokerError, Refused, Unavailable, WrongLogin
from trioworkers.printable import as_argument, as_word
from trioworkers.wire.error_replies import is_about_a_key
from trioworkers.wire.keys import Keys
from trioworkers.wire.process_records import Process
from trioworkers.wording import counted, jobs_wait

PINGS = 20
SLOW_S = 0.02
CLOCK_DIFFERENCE_S = 5.0
MAX_LISTS = 1000
MAX_ENTRIES = 1000
FILLED_BY_OTHERS = script(__file__, "filled_by_others", keys=("drained",), args=("list",), preludes=("drained",))


async def diagnose(connection: Connection, keys: Keys) -> AsyncGenerator[Finding, None]:
    """One finding after the other. Raises Unavailable if Redis can't be reached (any more), WrongLogin if it won't have us."""
    examiner = _Examiner(connection, keys)
    for check in (
        examiner.round_trip,
        examiner.server,
        examiner.clock,
        examiner.permissions,
        examiner.keys,
        examiner.queues,
        examiner.paused,
        examiner.shared_queues,
        examiner.heartbeats,
        examiner.periodic_jobs,
        examiner.orphans,
        examiner.limits,
        examiner.locks,
        examiner.outboxes,
    ):
        for finding in await _guarded(check):
            yield finding


async def _guarded(check: Callable[[], Awaitable[Sequence[Finding]]]) -> Sequence[Finding]:
    name = check.__name__.replace("_", " ")
    try:
        return await check()
    except (Unavailable, WrongLogin):
        raise
    except BrokerError as error:
        cure = "give our Redis user the right to look"
        if is_about_a_key(str(error)):
            cure = "see `keys` above: a key that it looks at is of the wrong type"
        return [Finding(name, "warning", f"could not be checked: {error}", cure)]


class _Examiner:
    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._inspector = Inspector(connection, keys)
        self._fleet = FleetControl(connection, keys)

    async def limits(self) -> Sequence[Finding]:
        return await limit_findings(self._connection, self._keys)

    async def outboxes(self) -> Sequence[Finding]:
        return await outbox_findings(self._connection, self._keys, await self._inspector.now_s())

    async def locks(self) -> Sequence[Finding]:
        return await lock_findings(self._connection, self._keys)

    async def round_trip(self) -> Sequence[Finding]:
        times: list[float] = []
        await self._connection.commands("ping").ping()  # the first one has to connect
        for _ in range(PINGS):
            started = trio.current_time()
            await self._connection.commands("ping").ping()
            times.append(trio.current_time() - started)
        typical_s = statistics.median(times)
        text = f"{typical_s * 1000:.1f} ms, at worst {max(times) * 1000:.1f} ms"
        if typical_s > SLOW_S:
            return [Finding("round trip", "warning", text, "run workers near their Redis: every batch waits for it")]
        return [Finding("round trip", "ok", text)]

    async def server(self) -> Sequence[Finding]:
        info = await read_info(self._connection)
        persistence = check_persistence(info, await saves_snapshots(self._connection))
        return [check_version(info), check_role(info), check_eviction(info), persistence]

    async def clock(self) -> Sequence[Finding]:
        before = time.time()
        redis_s = await self._inspector.now_s()
        difference_s = redis_s - (before + time.time()) / 2
        text = f"Redis's is {abs(difference_s):.3f} s {'ahead of' if difference_s > 0 else 'behind'} ours"
        if abs(difference_s) > CLOCK_DIFFERENCE_S:
            advice = "set both by NTP: a client schedules by its own clock, and Redis's clock decides when a job is due"
            return [Finding("clock", "warning", text, advice)]
        return [Finding("clock", "ok", text)]

    async def permissions(self) -> Sequence[Finding]:
        missing = await forbidden(self._connection, self._keys)
        if missing:
            text = f"our Redis user may not use: {', '.join(missing)}"
            return [Finding("permissions", "problem", text, "extend its ACL; docs/cli.md has one to copy")]
        return [Finding("permissions", "ok", "every command that workers use is allowed")]

    async def keys(self) -> Sequence[Finding]:
        try:
            queues = await self._inspector.queue_names()
        except Refused:  # the set of their names is no set: then that is what is found
            queues = []
        return await key_findings(self._connection, self._keys, queues)

    async def queues(self) -> Sequence[Finding]:
        now_s = await self._inspector.now_s()
        live = [process for process in await self._inspector.processes() if not is_gone(process, now_s)]
        consumed = {queue for process in live for queue in process.queues}
        queues = await self._inspector.queues()
        left = [queue for queue in queues if queue.size and queue.name not in consumed]
        findings = [
            Finding(
                "queues", "warning", f"{jobs_wait(queue.size)} in {as_word(queue.name)}, and nobody consumes it", _START
            )
            for queue in left
        ]
        return findings or [
            Finding(
                "queues", "ok", f"{len(queues)} queue{'' if len(queues) == 1 else 's'}, none waits without a consumer"
            )
        ]

    async def paused(self) -> Sequence[Finding]:
        paused = await self._fleet.paused()
        findings = [
            Finding(
                "paused",
                "warning" if queue.size else "note",
                f"{jobs_wait(queue.size)} in {as_word(queue.name)}, which is paused",
                f"trioworkers resume {as_argument(queue.name)}",
            )
            for queue in await self._inspector.queues()
            if queue.name in paused.queues
        ]
        findings += [
            Finding("paused", "warning", f"jobs of class {as_word(name)} are held: it is paused", _resume_class(name))
            for name in sorted(paused.classes)
        ]
        return findings or [Finding("paused", "ok", "no queue that has jobs, and no class")]

    async def shared_queues(self) -> Sequence[Finding]:
        findings = []
        for queue, kinds in sorted(_kinds_by_queue(await self._inspector.processes()).items()):
            if len(kinds) > 1:
                text = f"{as_word(queue)} is consumed by {' and by '.join(sorted(kinds))}: each takes jobs that are the other's"
                findings.append(Finding("shared queues", "problem", text, "give each kind of worker queues of its own"))
        return findings or [Finding("shared queues", "ok", "no queue is consumed by two kinds of worker")]

    async def heartbeats(self) -> Sequence[Finding]:
        return heartbeat_findings(await self._inspector.processes(), await self._inspector.now_s())

    async def periodic_jobs(self) -> Sequence[Finding]:
        entries = await PeriodicJobs(self._connection, self._keys).entries(MAX_ENTRIES)
        findings = [
            Finding(
                "periodic jobs",
                "problem",
                f"{as_word(state.name)} is never sent: {state.problem}",
                f"trioworkers cron delete {as_argument(state.name)}",
            )
            for state in entries
            if state.problem
        ]
        findings += late_findings(entries, await self._inspector.now_s())
        releases = sorted({process.zones for process in await self._inspector.processes() if process.zones})
        if len(releases) > 1:
            text = f"workers compute ticks with different releases of the time zone data: {', '.join(releases)}"
            findings.append(Finding("periodic jobs", "warning", text, "give all machines the same tzdata"))
        return findings or [
            Finding(
                "periodic jobs", "ok", f"{counted(len(entries), 'periodic job')}, all can be read and are sent in time"
            )
        ]

    async def orphans(self) -> Sequence[Finding]:
        registry: Mapping[bytes, bytes] = await self._connection.commands("registry").hgetall(
            self._keys.in_progress_lists
        )
        waiting, of_others = 0, []
        for name, entry in list(registry.items())[:MAX_LISTS]:
            process_id, key = entry.decode(errors="replace").partition(" ")[0], name.decode(errors="surrogateescape")
            if await self._connection.commands("lease").exists(self._keys.lease(process_id)):
                continue
            size = await self._connection.commands("length").llen(key)
            if size and await self._connection.run(FILLED_BY_OTHERS, [self._keys.drained(process_id)], [name]):
                of_others.append(
                    Finding("orphans", "note", f"{counted(size, 'job')} in {as_word(key)}, {_BY_OTHERS}", _WHOSE)
                )
            else:
                waiting += size
        if not waiting:
            return of_others or [Finding("orphans", "ok", "no job lies with a dead worker")]
        text = f"{counted(waiting, 'job')} in the lists of workers that are gone"
        if any(process.is_ours for process in await self._inspector.processes()):
            return [Finding("orphans", "note", text, "wait for a lease: a live worker takes them over"), *of_others]
        return [
            Finding("orphans", "warning", text, "start any worker: it takes them over within a lease"),
            *of_others,
        ]


_BY_OTHERS = "put there by another program (go-workers?) under a process id that was ours"
_WHOSE = "give it another process id; if it is dead, a worker of ours takes them over within an hour"
_START = "start a worker with handlers for it, or see who still sends there: trioworkers jobs QUEUE"


def _resume_class(name: str) -> str:
    return f"trioworkers resume --class {as_word(name)}"


def _kinds_by_queue(processes: Sequence[Process]) -> Mapping[str, set[str]]:
    kinds: dict[str, set[str]] = defaultdict(set)
    for process in processes:
        for queue in process.queues:
            kinds[queue].add("Ruby's Sidekiq" if process.kind.startswith("sidekiq") else process.kind)
    return kinds
