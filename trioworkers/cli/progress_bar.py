"""How far a job says it is, as a bar."""

from __future__ import annotations

from trioworkers.cli.tables import number, short
from trioworkers.wire.reported import Reported

BAR = 30


def shown(told: Reported | None) -> str:
    """A bar, as far as the job says."""
    if told is None:
        return "has not said how far it is"
    if not told.total:
        return f"{_plain(told.at)}  {told.message}"
    part = min(1.0, told.at / told.total)
    bar = "#" * int(part * BAR)
    return f"[{bar:<{BAR}}] {part:4.0%}  {_plain(told.at)}/{_plain(told.total)}  {short(told.message, 60)}"


def _plain(value: float) -> str:
    return number(int(value)) if value == int(value) else f"{value:,.2f}"
