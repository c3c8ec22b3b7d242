"""When a periodic job is due: expressions, and what they mean in a zone. Pure: the time is an argument.

A tick is a whole second in UTC, so a local hour that comes twice has two of each. Two rules say what becomes of the days on which clocks change, as in
Debian's cron:

- An expression that names its minutes and its hours (`30 2 * * *`) means a time of day, which comes once a day: one that is skipped comes at the end of
  the gap, of one that comes twice the first is meant.
- One with a `*` in either field (`*/15 * * * *`) means intervals: it goes by the time that passes, whatever clocks show.

cronsim reads the fields and finds matching times on a calendar without zones, a minute at a time. Zones and seconds are added here: so both rules hold with six
fields, too. It is imported with the first expression: a worker without periodic jobs needs neither it nor zoneinfo.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import count, islice
from typing import Protocol

import attrs

from trioworkers.zones import zone_named

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MAX_EXPRESSION = 200
MAX_EVERY_S = 366 * 86_400

_LENGTH = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_LAST_YEAR = 9900
"""Calendars end in 9999, and zones are added to them."""


class Schedule(Protocol):
    """When something is due."""

    def after(self, moment_s: int) -> int | None:
        """The first tick after an epoch second; None if none is to come."""

    def ticks(self, moment_s: int) -> Iterator[int]:
        """All ticks after an epoch second."""


@attrs.frozen
class Every:
    """Each so many seconds, counted from the epoch: the same moments on all workers."""

    seconds: int

    def after(self, moment_s: int) -> int | None:
        """See `Schedule`."""
        return (moment_s // self.seconds + 1) * self.seconds

    def ticks(self, moment_s: int) -> Iterator[int]:
        """See `Schedule`."""
        return count((moment_s // self.seconds + 1) * self.seconds, self.seconds)


@attrs.frozen
class Cron:
    """An expression of five fields, in a zone, and the seconds of each of its minutes."""

    fields: str
    seconds: tuple[int, ...]
    zone: tzinfo
    is_interval: bool

    def after(self, moment_s: int) -> int | None:
        """See `Schedule`."""
        return next(self.ticks(moment_s), None)

    def ticks(self, moment_s: int) -> Iterator[int]:
        """See `Schedule`."""
        try:
            begin = datetime.fromtimestamp(moment_s - moment_s % 60, UTC)
        except (OverflowError, ValueError, OSError):
            return
        last_s = moment_s
        try:
            for minute in self._intervals(begin) if self.is_interval else self._times_of_day(begin):
                minute_s = int(minute.timestamp())
                for second in self.seconds:
                    # Of a time that is skipped and one that isn't, which meet, one counts.
                    if minute_s + second > last_s:
                        last_s = minute_s + second
                        yield last_s
        except OverflowError:  # the calendar ends
            return

    def _times_of_day(self, begin: datetime) -> Iterator[datetime]:
        """The minutes from `begin` on, in UTC; one may come twice in a row."""
        local = (begin - _MINUTE).astimezone(self.zone).replace(tzinfo=None)
        for naive in _matching(self.fields, local):
            minute = naive.replace(tzinfo=self.zone).astimezone(UTC)
            if minute.astimezone(self.zone).replace(tzinfo=None) != naive:  # skipped
                minute = self._gap_end(minute)
            if minute >= begin:
                yield minute

    def _gap_end(self, inside: datetime) -> datetime:
        """The moment at which clocks went forward, given one as what it would be by the clock before (so it is after that moment)."""
        before, after = inside - _DAY, inside
        before_offset = _offset(before, self.zone)
        while after - before > _MINUTE:
            middle = before + (after - before) / 2
            before, after = (middle, after) if _offset(middle, self.zone) == before_offset else (before, middle)
        return _whole_minute(after)

    def _intervals(self, begin: datetime) -> Iterator[datetime]:
        """The minutes from `begin` on, in UTC, at which the clock shows a matching time."""
        start = begin
        while True:
            offset = _offset(start, self.zone)
            change = None
            looked_until = start
            for naive in _matching(self.fields, (start + offset).replace(tzinfo=None) - _MINUTE):
                minute = naive.replace(tzinfo=UTC) - offset
                change, looked_until = self._change(looked_until, minute, offset)
                if change is not None:
                    break
                yield minute
            if change is None:
                return
            start = change  # from here on clocks show something else

    def _change(self, begin: datetime, end: datetime, offset: timedelta) -> tuple[datetime | None, datetime]:
        """The moment in (begin, end] at which the offset isn't `offset` any more, if there is one; and until when there is none."""
        if begin.year > _LAST_YEAR:
            return None, end
        while begin < end:
            following = min(begin + _DAY, end)
            if _offset(following, self.zone) != offset:
                while following - begin > _MINUTE:
                    middle = begin + (following - begin) / 2
                    begin, following = (middle, following) if _offset(middle, self.zone) == offset else (begin, middle)
                return _whole_minute(following), begin
            begin = following
        return None, end


def _whole_minute(moment: datetime) -> datetime:
    """Down to the minute: a bisection ends within one after a change, and clocks change at whole minutes."""
    return moment.replace(second=0, microsecond=0)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _matching(fields: str, after: datetime) -> Iterator[datetime]:
    from cronsim import CronSim  # noqa: PLC0415 - a worker without periodic jobs doesn't need it

    yield from CronSim(fields, after)


@lru_cache(maxsize=2000)
def schedule(expression: str, zone: str = "UTC") -> Schedule:
    """When an expression is due, in a zone. Raises ValueError, which says what is wrong with either."""
    text = expression.strip() if isinstance(expression, str) else ""
    if not text or len(text) > MAX_EXPRESSION:
        raise ValueError(f"an expression is a text like '0 4 * * *', not {expression!r:.80}")
    found = zone_named(zone)
    if text.startswith("@every"):
        return Every(_length(text.removeprefix("@every").strip(), text))
    if text.startswith("@"):
        text = NICKNAMES.get(text.lower(), "")
        if not text:
            raise ValueError(f"{expression!r:.80}: known are {', '.join(NICKNAMES)}, @every 10s")
    fields = text.split()
    if len(fields) not in (5, 6):
        raise ValueError(
            f"{expression!r:.80} has {len(fields)} fields: minute, hour, day of month, month, day of week; with six the first is the second"
        )
    seconds = _seconds(fields[0], expression) if len(fields) == 6 else (0,)
    fields = fields[-5:]
    is_interval = fields[0].startswith("*") or fields[1].startswith("*")
    cron = Cron(" ".join(fields), seconds, found, is_interval)
    try:
        coming = next(_matching(cron.fields, datetime(2024, 1, 1)), None)  # noqa: DTZ001 - a calendar without zones
    except Exception as error:  # noqa: BLE001 - whatever cronsim makes of what it can't read
        raise ValueError(f"{expression!r:.80} can't be read: {error or type(error).__name__}") from None
    if coming is None:
        raise ValueError(f"{expression!r:.80} never comes")
    return cron


def _seconds(field: str, expression: str) -> tuple[int, ...]:
    from cronsim.cronsim import CronSimError, Field  # noqa: PLC0415 - as above

    try:
        found = Field.SECOND.parse(field)
    except (CronSimError, ValueError, AssertionError, RecursionError):
        raise ValueError(f"{expression!r:.80} can't be read: Bad second") from None
    return tuple(sorted(second for second in found if isinstance(second, int)))


def _length(text: str, expression: str) -> int:
    found = _LENGTH.fullmatch(text)
    if found is None or not text:
        raise ValueError(f"{expression!r:.80}: a length is like 10s, 5m, 1h30m, 2d, in whole seconds")
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    length = days * 86_400 + hours * 3600 + minutes * 60 + seconds
    if not 1 <= length <= MAX_EVERY_S:
        raise ValueError(f"{expression!r:.80}: a length is from 1s to 366d")
    return length


def coming(when: Schedule, now_s: float, most: int) -> list[int]:
    """The next ticks."""
    return list(islice(when.ticks(math.floor(now_s)), most))
