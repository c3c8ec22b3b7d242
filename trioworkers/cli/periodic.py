"""What `cron` does: shows periodic jobs and their runs, explains expressions, and has entries run, pause, go on, be there or not."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import attrs

from trioworkers.broker.people.periodic import MOST, EntryState, PeriodicJobs
from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli.commands.enqueue import parse_argument
from trioworkers.cli.jids import place_of
from trioworkers.cli.session import Session, in_session, in_shards
from trioworkers.cli.shards import names_an_app, redises_of
from trioworkers.cli.tables import Column, Rows, duration, moment, remark, say
from trioworkers.cron import coming, schedule
from trioworkers.errors import NotFound, WrongUsage
from trioworkers.missed_ticks import Missed, Overlap
from trioworkers.printable import as_argument, as_word
from trioworkers.wire.job import Job
from trioworkers.wire.periodic import Periodic, encode_entry, is_own_name
from trioworkers.zones import zone_named

SHOWN = 5
_COLUMNS = (
    Column("name", lambda row: row["name"], wide=True),
    Column("expression", lambda row: row["expression"]),
    Column("zone", lambda row: row["zone"]),
    Column("next", lambda row: "" if row["next"] is None else moment(row["next"]), right=True),
    Column("in", lambda row: duration(row["due"]), right=True),
    Column("", lambda row: row["remark"], wide=True),
)
_TIMES = (
    Column("zone", lambda row: row["local"]),
    Column("UTC", lambda row: row["utc"]),
    Column("in", lambda row: duration(row["due"]), right=True),
)
_RUNS = (
    Column("tick (UTC)", lambda row: row["utc"]),
    Column("jid", lambda row: row["jid"]),
    Column("sent", lambda row: moment(row["sent_at"])),
    Column("how", lambda row: row["where"] or row["how"]),
    Column("after", lambda row: duration(row["took"]), right=True),
)


async def entries(session: Session, *, as_json: bool) -> None:
    """All of them."""
    found = await PeriodicJobs(session.connection, session.keys).entries()
    now_s = await session.inspector.now_s()
    rows = Rows(_COLUMNS, as_json=as_json)
    for state in found:
        rows.add(_row(state, now_s))
    rows.end()
    if not found:
        remark("no periodic job: no worker that declares one has run here lately")
    if len(found) == MOST:
        remark(f"… and perhaps more: {MOST:,} are shown")


def _row(state: EntryState, now_s: float) -> dict[str, Any]:
    entry, is_due = state.entry, math.isfinite(state.next_s)
    remarks = [word for word, said in (("paused", state.paused), ("dynamic", state.origin == "dynamic")) if said]
    if state.problem:
        remarks.append(f"broken: {state.problem}")
    elif not is_due and not state.paused:
        remarks.append("never due again")
    return {
        "name": state.name,
        "expression": "" if entry is None else entry.expression,
        "zone": "" if entry is None else entry.zone,
        "next": state.next_s if is_due else None,
        "due": state.next_s - now_s if is_due else None,
        "origin": state.origin,
        "paused": state.paused,
        "problem": state.problem,
        "queue": "" if entry is None else entry.job.queue,
        "class": "" if entry is None else entry.job.job_class,
        "args": None if entry is None else entry.shown_args,
        "missed": "" if entry is None else entry.missed,
        "overlap": "" if entry is None else entry.overlap,
        "jitter": None if entry is None else entry.jitter_s,
        "remark": ", ".join(remarks),
    }


async def one_entry(session: Session, name: str, *, as_json: bool) -> None:
    """One entry, and its next times. Raises NotFound."""
    state = await PeriodicJobs(session.connection, session.keys).named(name)
    now_s = await session.inspector.now_s()
    rows = Rows(_COLUMNS, as_json=as_json)
    rows.add(_row(state, now_s))
    rows.end()
    if state.entry is not None and not state.paused:
        _times(state.entry.expression, state.entry.zone, now_s, as_json=as_json)


async def history(session: Session, name: str, *, as_json: bool) -> None:
    """The last runs of an entry, the latest first; of those that have not ended, where they are. Raises NotFound."""
    jobs = PeriodicJobs(session.connection, session.keys)
    state = await jobs.named(name)
    rows = Rows(_RUNS, as_json=as_json)
    found = await jobs.runs(state.name)
    open_runs = {run.jid for run in found if run.how == "sent"}
    places = {jid: place_of(entry) for jid, entry in (await session.inspector.runs(state.name, open_runs)).items()}
    for run in found:
        rows.add(
            {
                "utc": _utc(run.tick_s),
                "tick": run.tick_s,
                "jid": run.jid,
                "sent_at": run.at_s,
                "how": run.how,
                "where": places.get(run.jid, ""),
                "took": None if run.ended_s is None else run.ended_s - run.at_s,
            }
        )
    rows.end()
    if not found:
        remark(f"{as_word(state.name)} has not run yet")


def explain(expression: str, zone: str, *, as_json: bool) -> None:
    """When an expression is due next. Raises WrongUsage."""
    try:
        schedule(expression, zone)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    _times(expression, zone, time.time(), as_json=as_json)


def _times(expression: str, zone: str, now_s: float, *, as_json: bool) -> None:
    rows = Rows(_TIMES, as_json=as_json)
    for tick_s in coming(schedule(expression, zone), now_s, SHOWN):
        rows.add(_time(tick_s, zone, now_s))
    rows.end()


def _time(tick_s: int, zone: str, now_s: float) -> Mapping[str, Any]:
    local = datetime.fromtimestamp(tick_s, zone_named(zone))
    return {
        "local": f"{local:%a %Y-%m-%d %H:%M:%S %z} {zone}",
        "utc": _utc(tick_s),
        "tick": tick_s,
        "due": tick_s - now_s,
    }


def _utc(epoch_s: float) -> str:
    try:
        return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return f"{epoch_s:g}"


@attrs.frozen
class Options:
    """What a command line says of an entry besides its job."""

    zone: str
    missed: Missed
    overlap: Overlap
    jitter_s: float
    active_job: bool


def created(name: str, words: Sequence[str], options: Options) -> Periodic:
    """The entry that a command line means. Raises WrongUsage, BadJob."""
    if len(words) < 3:
        raise WrongUsage("create NAME EXPRESSION QUEUE CLASS [ARG]...: something is missing")
    if not is_own_name(name):
        raise WrongUsage(f"a periodic job's name has at most 128 letters, digits or _.:- , not {name!r:.80}")
    expression, queue, job_class, *args = words
    job = Job(queue, job_class, [parse_argument(arg) for arg in args], active_job=options.active_job)
    entry = Periodic(
        *(name, expression, job, options.zone, options.missed), overlap=options.overlap, jitter_s=options.jitter_s
    )
    try:
        encode_entry(entry)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    return entry


def create(entry: Periodic, redis: str | None, namespace: str | None) -> None:
    """Have an entry be there, or be this; of several Redises in the one where its job is to lie. Raises ConfigurationError for one that code declares."""
    places = redises_of(redis, namespace) if redis is not None and names_an_app(redis) and namespace is None else {}
    if redis is not None and len(places) > 1:
        _create_where_it_belongs(entry, redis, places)
    else:
        in_session(partial(_put, entry), redis, namespace)


def _create_where_it_belongs(entry: Periodic, redis: str, places: Mapping[str, ChosenRedis]) -> None:
    """There first; then it goes from the others, where a queue that has moved may have left it."""
    from trioworkers.cli.loader import load_app  # noqa: PLC0415 - most commands load no App

    layout = load_app(redis).layout
    assert layout is not None  # noqa: S101 - who has several Redises has one
    home = layout.place(attrs.evolve(entry.job, jid=entry.name))
    in_shards(partial(_put, entry), {home: places[home]})
    in_shards(partial(_take_out, entry.name), {name: place for name, place in places.items() if name != home})


async def _take_out(name: str, session: Session) -> None:
    await PeriodicJobs(session.connection, session.keys).delete(name)


async def _put(entry: Periodic, session: Session) -> None:
    await PeriodicJobs(session.connection, session.keys).put(entry)
    await _say_when(entry.name, session)


async def _say_when(name: str, session: Session) -> None:
    state = await PeriodicJobs(session.connection, session.keys).named(name)
    say(f"{name}: next {_utc(state.next_s)} UTC" if not state.paused else f"{name}: paused")


async def change(session: Session, name: str, action: str) -> None:
    """Run it now, pause it, have it go on, delete it. Raises NotFound."""
    jobs = PeriodicJobs(session.connection, session.keys)
    state = await jobs.named(name)
    if action == "run":
        jid, there = await jobs.run(state)
        if there is not None:
            remark(f"{as_word(state.name)}: job {there} waits or runs already")
        say(jid if there is None else there)
    elif action == "pause":
        await jobs.pause(state.name)
        say(f"{as_word(state.name)}: paused, until `trioworkers cron resume {as_argument(state.name)}`")
    elif action == "resume":
        say(f"{as_word(state.name)}: next {_utc(await jobs.resume(state))} UTC")
    elif await jobs.delete(state.name):
        say(f"{as_word(state.name)}: deleted")
    else:
        raise NotFound(f"no periodic job is called {as_word(state.name)}")
