"""What is known of a job besides its payload: how far it says it is, what its steps returned, what it logged last, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import attrs

from trioworkers.broker.people.ended import kept_log, look_at
from trioworkers.broker.people.session import Session
from trioworkers.errors import Refused
from trioworkers.wire.ended import Ended
from trioworkers.wire.log_lines import LogLine
from trioworkers.wire.record import Recorded, record_in
from trioworkers.wire.reported import Reported

MOST_STEPS = 50
MOST_CURSOR_BYTES = 65_536
RUBY_ITERATION = "each_iteration"
"""What Ruby's iterable jobs call what they do for each."""
SHOWN_CHARACTERS = 200
"""Of what a step returned, or where an iteration is."""


@attrs.frozen
class Besides:
    """`steps`: by name, in JSON, the beginning of what each returned; `more_steps`: how many are left out. `iterations`: by name, where each is, in JSON, and whether it is through."""

    told: Reported | None = None
    ended: Ended | None = None
    log: Sequence[LogLine] = ()
    steps: Mapping[str, str] = attrs.field(factory=dict)
    more_steps: int = 0
    iterations: Mapping[str, tuple[str, bool]] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.told or self.ended or self.log or self.steps or self.iterations)


async def look_besides(session: Session, jid: str, payload: bytes = b"", log: Sequence[LogLine] = ()) -> Besides:
    """All of it. `log`: as its worker tells it, if it runs. Raises BrokerError."""
    told, ended = await look_at(session, jid)
    recorded = record_in(payload) or Recorded()
    steps = {name: bytes(result) for name, result in recorded.steps.items()}
    if recorded.beside and len(steps) < MOST_STEPS:
        # So many or a few more, however many there are: HSCAN gives a small hash whole, of a large one about as many as are asked for.
        _, found = await session.connection.commands("show").hscan(session.keys.steps(jid), None, MOST_STEPS)
        steps.update({name.decode(errors="replace"): result for name, result in found.items()})
    shown = dict(list(steps.items())[:MOST_STEPS])
    iterations = {name: (_beginning(where), over) for name, (where, over) in recorded.texts.items()}
    if cursor := await _ruby_cursor(session, jid):
        iterations[RUBY_ITERATION] = (_beginning(cursor), False)
    count = len(recorded.steps) + recorded.beside
    return Besides(
        told,
        ended,
        log or await kept_log(session, jid),
        {name: _beginning(result) for name, result in shown.items()},
        max(count - len(shown), 0),
        iterations,
    )


async def _ruby_cursor(session: Session, jid: str) -> bytes:
    """Where an iterable job of Ruby's is, in JSON; nothing if it is none."""
    key = session.keys.ruby_iteration(jid)
    with suppress(Refused):  # a key of that name may be anybody's, and of any type
        length = int(await session.connection.execute("show", "HSTRLEN", key, "c"))
        if 0 < length <= MOST_CURSOR_BYTES:
            return await session.connection.commands("show").hget(key, "c") or b""
    return b""


def _beginning(text: bytes) -> str:
    whole = text[: 4 * SHOWN_CHARACTERS].decode(errors="replace")
    return whole if len(whole) <= SHOWN_CHARACTERS else f"{whole[:SHOWN_CHARACTERS]}…"
