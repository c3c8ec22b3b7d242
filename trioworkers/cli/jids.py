"""Which job a JID on a command line means: its whole jid, or the beginning of a random one that no other job has, like git's short hashes.

Rails' people have another id in their log, ActiveJob's, which is taken alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import aclosing

import attrs

from trioworkers.broker.people.inspection import Inspector
from trioworkers.cli.tables import clean, number
from trioworkers.errors import Ambiguous, NotFound
from trioworkers.printable import as_name, as_word
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location

_RANDOM = re.compile(r"[0-9a-f]{24}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What Sidekiq, we and Rails make. Others must be given whole: who means `order-1`, which is done, must not get `order-12`."""

LEAST = 6
"""Fewer characters would soon mean another job than the one that was meant."""

NAMED = 10


@attrs.frozen
class Found:
    """One job. `entries`: where it is, more than one place while it moves; empty: nowhere (then `jid` is what was asked for)."""

    jid: str
    entries: Sequence[Entry]

    def missing(self) -> NotFound:
        """What to raise if it is nowhere."""
        short = len(self.jid) < LEAST
        hint = f"; the beginning of a random jid is enough from {LEAST} characters on" if short else ""
        return NotFound(
            f"no job {as_word(self.jid)} in any queue or set, and none is running: it is done, was deleted, or never was{hint}"
        )


async def find_job(inspector: Inspector, text: str) -> Found:
    """The job whose jid is `text`; else the only one whose jid begins so, or that Rails calls so. Raises Ambiguous if several do."""
    by_jid: dict[str, list[Entry]] = {}
    async with aclosing(inspector.find(text, whole=len(text) < LEAST)) as entries:
        async for entry in entries:
            if any(text == each or (each.startswith(text) and _RANDOM.fullmatch(each)) for each in entry.ids):
                by_jid.setdefault(entry.jid, []).append(entry)
    if text in by_jid:
        return Found(text, by_jid[text])
    called = {jid: found for jid, found in by_jid.items() if found[0].active_job_id == text}
    by_jid = called or by_jid
    if len(by_jid) > 1:
        raise Ambiguous(_which_one(text, by_jid))
    return next((Found(jid, found) for jid, found in by_jid.items()), Found(text, ()))


def _which_one(text: str, by_jid: dict[str, list[Entry]]) -> str:
    lines = [f"{number(len(by_jid))} jobs are meant by {as_word(text)}: which one? Nothing was done"]
    for jid, entries in list(by_jid.items())[:NAMED]:
        lines.append(f"  {as_word(jid)}  {as_name(entries[0].job_class)}  {place_of(entries[0])}")
    if len(by_jid) > NAMED:
        lines.append(f"  … and {number(len(by_jid) - NAMED)} more")
    return "\n".join(lines)


def place_of(entry: Entry) -> str:
    """Where it is, in words."""
    where = f"running on {entry.process_id}" if entry.place == "running" else None
    return clean(where or f"in {Location(entry.place, entry.list_queue)}")
