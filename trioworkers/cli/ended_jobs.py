"""What `result`, `watch` and `finished` do."""

from __future__ import annotations

import math
import sys

import trio

from trioworkers.broker.people.ended import finished, finished_classes, look_at
from trioworkers.broker.sender import Sender
from trioworkers.cli.jids import find_job, place_of
from trioworkers.cli.progress_bar import shown
from trioworkers.cli.session import NotHere, Session
from trioworkers.cli.tables import Column, Rows, clean, duration, is_in_shard, moment, remark, say, write_json
from trioworkers.errors import JobFailed, JobGone, NotFound
from trioworkers.jobs.client import Client
from trioworkers.printable import as_word
from trioworkers.wire.ended import Ended
from trioworkers.wire.reported import Reported

FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 5.0
"""Between two looks; between two looks through all places, when nothing else tells that a job is over."""
LOOKS = 3
"""How often a job is looked for in one of several shards."""
_COLUMNS = (
    Column("ended", lambda row: moment(row["ended"])),
    Column("how", lambda row: row["how"]),
    Column("took", lambda row: duration(row["took"]), right=True),
    Column("jid", lambda row: row["jid"]),
    Column("queue", lambda row: row["queue"]),
)


async def result(session: Session, jid: str, *, wait_s: float) -> None:
    """What a job returned, as JSON. Raises JobFailed, JobGone, and NotFound for one that has not ended."""
    client = Client.around(Sender(session.connection, session.keys))
    where = "nowhere: it keeps no result, or never was"
    looks = LOOKS if is_in_shard() else 1
    while looks and await session.connection.commands("result").get(session.keys.result(jid)) is None:
        found = await find_job(session.inspector, jid)
        if found.entries:
            jid, where = found.jid, place_of(found.entries[0])
            break
        looks -= 1
        if is_in_shard():  # then it is another one's, or on its way from one place to the next
            if not looks:
                raise NotHere(f"no result of job {jid} is kept; it is {where}")
            await trio.sleep(FIRST_PAUSE_S)
    try:
        write_json(await client.result(jid, timeout=wait_s))
    except TimeoutError:
        raise NotFound(f"no result of job {jid} is kept; it is {where}") from None


async def show_finished(session: Session, job_class: str | None, *, limit: int, as_json: bool) -> None:
    """How the last jobs of a class ended; without one the classes of which that is kept."""
    if job_class is None:
        classes = await finished_classes(session)
        for name in classes:
            if as_json:
                write_json({"class": name})
            else:
                say(name)
        if not classes:
            remark("no class keeps how its jobs ended: @app.handler(…, keep_finished=1000)")
        return
    rows = Rows(_COLUMNS, as_json=as_json)
    found = await finished(session, job_class, limit)
    for each in found:
        rows.add({"ended": each.ended_at_s, "how": each.how, "took": each.took_s, "jid": each.jid, "queue": each.queue})
    rows.end()
    if not found:
        remark(f"nothing is kept of how jobs of {as_word(job_class)} ended")


class Watch:
    """Shows how far a job is until it has ended: on a terminal in one line, in a pipe a line for each change."""

    def __init__(self, session: Session, jid: str, *, as_json: bool) -> None:
        self._session = session
        self._jid = jid
        self._as_json = as_json
        self._in_place = not as_json and sys.stdout.isatty()
        self._shown = ""

    async def run(self) -> None:
        """Raises NotFound for a job that never was seen, JobFailed or JobGone for one that ended so."""
        missing, pause_s = 0, FIRST_PAUSE_S
        look_for_it_at = -math.inf
        while True:
            told, ended = await look_at(self._session, self._jid)
            if told is None and ended is None and missing == 0 and trio.current_time() >= look_for_it_at:
                await self._resolve()
                told, ended = await look_at(self._session, self._jid)
            how = ended.how if ended is not None else told.how if told is not None else ""
            self._show(told, how)
            if how:
                return self._end(how, ended)
            if trio.current_time() >= look_for_it_at:
                missing = 0 if await self._is_waiting_somewhere() else missing + 1
                pause_s = FIRST_PAUSE_S if missing else min(2 * pause_s, LAST_PAUSE_S)
                look_for_it_at = trio.current_time() + pause_s
            if missing == 3:  # it may be on its way from one place to the next
                self._break()
                say(f"{self._jid} is over: it is in no place any more, and keeps no result")
                return None
            await trio.sleep(FIRST_PAUSE_S)

    async def _resolve(self) -> None:
        """Which job is meant. Raises NotFound or Ambiguous."""
        found = await find_job(self._session.inspector, self._jid)
        if not found.entries:
            raise found.missing()
        self._jid = found.jid

    async def _is_waiting_somewhere(self) -> bool:
        """False if it is nowhere. Raises JobFailed if it is dead: of most dead jobs nothing else tells that they have ended."""
        found = [entry async for entry in self._session.inspector.find(self._jid, whole=True)]
        if found and all(entry.place == "dead" for entry in found):
            self._break()
            raise JobFailed(self._jid, found[0].error_class, found[0].error_message)
        return bool(found)

    def _show(self, told: Reported | None, how: str) -> None:
        if self._as_json:
            line = "" if told is None else repr(told)
            if line != self._shown and told is not None:
                write_json({"jid": self._jid, "at": told.at, "total": told.total, "message": told.message, "how": how})
                sys.stdout.flush()
            self._shown = line
            return
        line = clean(f"{self._jid}  {shown(told)}")
        if line == self._shown:
            return
        self._shown = line
        if self._in_place:
            sys.stdout.write(f"\r\x1b[K{line}")
        else:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def _break(self) -> None:
        if self._in_place:
            sys.stdout.write("\n")

    def _end(self, how: str, ended: Ended | None) -> None:
        self._break()
        if how == "dead":
            error = ("", "") if ended is None else (ended.error_class, ended.error_message)
            raise JobFailed(self._jid, *error)
        if how != "succeeded":
            raise JobGone(self._jid, how)
        if not self._as_json:
            say(f"{self._jid} succeeded")
