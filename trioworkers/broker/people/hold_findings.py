"""What `doctor` says of what is held: locks and places in batches whose job is nowhere, permits that nobody's record knows, ticks that nobody takes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

import trio

from trioworkers.broker.checks import Finding
from trioworkers.broker.holds.search import MEMBER, HeldLock, HoldsSearch
from trioworkers.broker.people.periodic import EntryState
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import script
from trioworkers.printable import as_word
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack
from trioworkers.wording import counted

FOUND_WITHIN_S = 600
"""Within so long workers find what others deleted, and let go what it held."""
PATIENCE_S = 20.0
"""How long a look at all places may take here."""
LATE_S = 60.0
"""A tick that is due for longer is taken by no worker that runs."""
SHOWN = 5
MOST_PERMITS = 1000

LOST_PERMITS = script(__file__, "lost_permits", keys=(), args=("own", "names", "most"))


async def lock_findings(connection: Connection, keys: Keys) -> Sequence[Finding]:
    """By the evidence of the workers' search: untouched for longer than that takes, and in no place in a complete look. Raises BrokerError."""
    search = HoldsSearch(connection, keys, [keys])
    held, _ = await search.untouched(FOUND_WITHIN_S)
    missing = {each.key: each for each in held if each.jid}
    broken = len(held) - len(missing)
    with trio.move_on_after(PATIENCE_S) as patience:
        await _look(search, missing)
    if patience.cancelled_caught:
        return [Finding("locks", "note", f"there is too much to look at all of it within {PATIENCE_S:g} s")]
    now_held = {(each.key, each.touched) for each in (await search.untouched(FOUND_WITHIN_S))[0]}
    gone = [each for each in missing.values() if (each.key, each.touched) in now_held]
    findings = []
    if gone:
        text = f"{counted(len(gone), _noun(gone))} whose job is in no place for ten minutes: {_named(gone)}"
        advice = (
            "our workers give them back within ten minutes: check that one runs; or use trioworkers unique release LOCK"
        )
        findings.append(Finding("locks", "warning", text, advice))
    if broken:
        findings.append(
            Finding("locks", "warning", f"{counted(broken, 'lock')} can't be read", "workers of ours remove them")
        )
    return findings


async def _look(search: HoldsSearch, missing: dict[str, HeldLock]) -> None:
    if missing:
        async with aclosing(search.walk()) as pages:
            async for page in pages:
                for key in page:
                    missing.pop(key, None)


def _noun(gone: Sequence[HeldLock]) -> str:
    return "batch member" if all(each.key.startswith(MEMBER) for each in gone) else "lock"


def _named(gone: Sequence[HeldLock]) -> str:
    names = [f"{each.key} (job {each.jid})" for each in gone[:SHOWN]]
    return ", ".join(names) + (", …" if len(gone) > SHOWN else "")


async def permit_findings(connection: Connection, keys: Keys, limits: Sequence[str]) -> Sequence[Finding]:
    """Of these limits. Raises BrokerError."""
    reply = await connection.run(LOST_PERMITS, [], [keys.own, pack(list(limits)), MOST_PERMITS], "doctor")
    found = zip(reply[::2], reply[1::2], strict=True)
    advice = "somebody deleted our keys: workers give such permits back as soon as a job waits for one"
    return [
        Finding(
            "limits",
            "warning",
            f"{counted(lost, 'permit')} of {name.decode(errors='replace')} {_is(lost)} nobody's",
            advice,
        )
        for name, lost in found
    ]


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def late_findings(entries: Sequence[EntryState], now_s: float) -> Sequence[Finding]:
    """Of periodic jobs that can be read."""
    late = [state for state in entries if not state.problem and now_s - state.next_s > LATE_S]
    advice = "start any worker; if one runs, its log says why it leaves them to others"
    return [
        Finding(
            "periodic jobs",
            "warning",
            f"{as_word(state.name)} has been due for {now_s - state.next_s:,.0f} s, and nobody sends it",
            advice,
        )
        for state in late
    ]
