"""What `trioworkers unique` does: list the locks of unique jobs, show one, let one go by hand."""

from __future__ import annotations

import secrets
from contextlib import aclosing
from typing import Any

from trioworkers.broker.people.locks import LockDesk
from trioworkers.cli.jids import find_job, place_of
from trioworkers.cli.move_jobs import confirm
from trioworkers.cli.session import Session
from trioworkers.cli.tables import Column, Rows, duration, number, remark, say, write_json
from trioworkers.errors import NotFound
from trioworkers.wire.control_messages import ControlMessage
from trioworkers.wire.lock_state import LockState

_COLUMNS = (
    Column("lock", lambda row: row["lock"]),
    Column("job", lambda row: row["jid"] or row.get("problem", "")),
    Column("held for", lambda row: duration(row["held"]), right=True),
    Column("moved", lambda row: duration(row["moved"]), right=True),
    Column("next", lambda row: row["next"] or ""),
)


async def listed(session: Session, *, limit: int, as_json: bool) -> None:
    """All locks that are held."""
    desk, now_s = LockDesk(session.connection, session.keys), await session.inspector.now_s()
    total, rows, shown = await desk.count(), Rows(_COLUMNS, as_json=as_json), 0
    async with aclosing(desk.pages()) as pages:
        async for page in pages:
            for lock in page[: limit - shown if limit else None]:
                rows.add(_row(lock, now_s))
                shown += 1
            if limit and shown >= limit:
                break
    rows.end()
    if shown < total:
        remark(f"… and {number(total - shown)} more: --limit 0 shows all")
    elif not shown:
        remark("no unique job waits or runs")


async def show(session: Session, key: str, *, as_json: bool) -> None:
    """One lock, and where its job is. Raises NotFound."""
    desk, now_s = LockDesk(session.connection, session.keys), await session.inspector.now_s()
    lock, spell = await desk.lock(key), await desk.spell(key)
    if spell is not None and lock is None:
        row: dict[str, Any] = {"lock": key, "jid": spell.jid, "until": round(spell.left_s, 3)}
        if as_json:
            write_json(row)
        else:
            say(f"{key}: job {spell.jid} was sent; no other one is for {duration(spell.left_s)}")
        return
    if lock is None:
        raise NotFound(f"nobody has the lock {key}")
    places = [place_of(entry) for entry in (await find_job(session.inspector, lock.jid)).entries] if lock.jid else []
    row = {**_row(lock, now_s), "places": places}
    if as_json:
        write_json(row)
        return
    say(f"lock      {key}")
    say(f"job       {lock.jid or lock.problem}{', ' + ' and '.join(places) if places else ''}")
    say(f"held for  {duration(row['held'])}, moved {duration(row['moved'])} ago")
    if lock.next_jid:
        say(f"next      {lock.next_jid}")
    if lock.jid and not places:
        remark("its job was not found: if it is in no place, the workers give the lock back within ten minutes")


async def release(session: Session, key: str, *, yes: bool) -> None:
    """Let a lock go by hand. Raises NotFound if nobody has it."""
    desk = LockDesk(session.connection, session.keys)
    lock = await desk.lock(key)
    if not yes:
        who = lock.jid if lock is not None else "nobody"
        confirm(
            f"the lock {key} of job {who} will be given back, and another job with the same key may run at the same time. Go on?",
            "--yes",
        )
    jid = await desk.release(key)
    if not jid:
        raise NotFound(f"nobody has the lock {key}")
    say(f"{key}: given back; job {jid} had it")
    await _audit(session, f"the lock {key} of job {jid} was given back by an operator")


async def _audit(session: Session, note: str) -> None:
    """Have a worker write it into its log, where somebody will look for it."""
    ours = [process for process in await session.inspector.processes() if process.is_ours and process.process_id]
    for process in ours[:1]:
        await session.fleet.send(process.process_id, ControlMessage(secrets.token_hex(8), "note", note=note), 0.0)
    if not ours:
        remark("no worker of ours runs that could note it in its log")


def _row(lock: LockState, now_s: float) -> dict[str, Any]:
    return {
        "lock": lock.key,
        "jid": lock.jid,
        "held": None if lock.since_s is None else round(max(0.0, now_s - lock.since_s), 3),
        "moved": None if lock.touched_s is None else round(max(0.0, now_s - lock.touched_s), 3),
        "next": lock.next_jid or None,
        **({"problem": lock.problem} if lock.problem else {}),
    }
