"""What `trioworkers stats` does: the totals, once or over and over with rates."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import trio

from trioworkers.broker.people.inspection import Totals
from trioworkers.cli.each_shard import of_each
from trioworkers.cli.session import Session
from trioworkers.cli.tables import clean, number, remark, write_json
from trioworkers.errors import CannotServe, Unavailable
from trioworkers.wire.places import sets
from trioworkers.wire.process_parts import together

_BARS = "▁▂▃▄▅▆▇█"
_SAMPLES = 60


async def stats(sessions: Mapping[str, Session], *, every_s: float | None, as_json: bool) -> None:
    """Totals once, or every `every_s` seconds with rates until interrupted; then a Redis that goes is waited for."""
    meter = _Meter()
    with _screen(live=every_s is not None and not as_json and sys.stdout.isatty()) as screen:

        def tell(text: str) -> None:
            if screen is None:
                remark(text)
            else:
                screen.update("\n".join([*_lines(numbers, meter), clean(text)]), refresh=True)

        numbers = await _numbers(sessions, meter)
        while True:
            if as_json:
                write_json(numbers)
            elif screen is not None:
                screen.update("\n".join(_lines(numbers, meter)), refresh=True)
            else:
                sys.stdout.write("\n".join(_lines(numbers, meter) if every_s is None else [_line(numbers)]) + "\n")
            sys.stdout.flush()
            if every_s is None:
                return
            numbers = await _again(sessions, meter, every_s, tell)


async def _again(
    sessions: Mapping[str, Session], meter: _Meter, every_s: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The next look that succeeds: who watches wants to see Redis come back, too."""
    told = False
    while True:
        await trio.sleep(every_s)
        try:
            return await _numbers(sessions, meter)
        except Unavailable as error:
            if not told:
                said = "Redis can't serve now" if isinstance(error, CannotServe) else "no answer from Redis"
                tell(f"{said}, it is waited for: {error}")
            told = True


@attrs.define
class _Meter:
    """Rates, from one look to the next; None before the second."""

    _before: tuple[float, Totals] | None = None
    history: deque[float] = attrs.field(factory=lambda: deque(maxlen=_SAMPLES))

    def rates(self, totals: Totals) -> dict[str, float | None]:
        now = time.monotonic()
        before, self._before = self._before, (now, totals)
        if before is None:
            return {"processed_rate": None, "failed_rate": None}
        past_s = max(now - before[0], 0.001)
        processed = (totals.processed - before[1].processed) / past_s
        self.history.append(max(processed, 0.0))
        return {
            "processed_rate": round(processed, 1),
            "failed_rate": round((totals.failed - before[1].failed) / past_s, 1),
        }

    @property
    def sparkline(self) -> str:
        highest = max(self.history, default=0.0) or 1.0
        return "".join(_BARS[round(rate / highest * (len(_BARS) - 1))] for rate in self.history)


async def _numbers(sessions: Mapping[str, Session], meter: _Meter) -> dict[str, Any]:
    """Of all Redises together. A process that has several counts once."""
    each = [*(await of_each(sessions, lambda session: session.inspector.totals())).values()]
    there = await of_each(sessions, lambda session: session.inspector.processes())
    processes = [parts.whole for parts in together(there)]
    totals = each[0] if len(each) == 1 else _sum(each)
    return {
        **{name: value for name, value in attrs.asdict(totals, recurse=False).items() if name != "sets"},
        **totals.sets,
        "busy": sum(process.busy for process in processes),
        "slots": sum(process.concurrency for process in processes),
        "processes": len(processes),
        **meter.rates(totals),
    }


def _sum(each: Sequence[Totals]) -> Totals:
    counts = {
        field.name: sum(getattr(one, field.name) for one in each)
        for field in attrs.fields(Totals)
        if field.name != "sets"
    }
    return Totals(**counts, sets={name: sum(one.sets[name] for one in each) for name in each[0].sets})


def _lines(numbers: dict[str, Any], meter: _Meter) -> list[str]:
    def pair(*names: str) -> str:
        return "   ".join(f"{name} {number(numbers[name])}" for name in names)

    lines = [
        f"today, UTC  {number(numbers['processed_today'])} processed, {number(numbers['failed_today'])} failed",
        f"in all      {number(numbers['processed'])} processed, {number(numbers['failed'])} failed",
        f"waiting     {pair('enqueued', *(each.name for each in sets()))}",
        f"processes   {numbers['processes']}, {number(numbers['busy'])} of {number(numbers['slots'])} slots busy",
    ]
    if numbers["processed_rate"] is not None:
        lines.append(f"rate        {number(numbers['processed_rate'])}/s, {number(numbers['failed_rate'])} failed/s")
        lines.append(f"            {meter.sparkline}")
    return lines


def _line(numbers: dict[str, Any]) -> str:
    return "\t".join(f"{name}={'-' if value is None else value}" for name, value in numbers.items())


def _screen(*, live: bool) -> AbstractContextManager[Any]:
    if not live:
        return nullcontext()
    from rich.console import Console  # noqa: PLC0415 - dear to import
    from rich.live import Live  # noqa: PLC0415 - as above

    return Live(console=Console(highlight=False, markup=False), auto_refresh=False)
