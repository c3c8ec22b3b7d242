"""When ticks are due: against a model that tries every minute of the days on which clocks change, and against what is known by heart."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.cron import Every, coming, schedule
from trioworkers.missed_ticks import last, newest_of, plan
from trioworkers.zones import zone_data

CHANGES = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # by half an hour
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Africa/Cairo", date(2026, 4, 24)),  # at midnight
    ("Africa/Cairo", date(2026, 10, 29)),
    ("Pacific/Apia", date(2011, 12, 30)),  # a day that wasn't
]
EXPRESSIONS = [
    "30 2 * * *",
    "15,45 2 * * *",
    "0 0 * * *",
    "15 0,1,2,3 * * *",
    "30 0-5 * * *",
    "* * * * *",
    "*/15 * * * *",
    "30 * * * *",
    "0 */2 * * *",
    "30 */2 * * *",
    "*/10 2 * * *",
    "*/20 0 * * *",
    "5 4 * * sun",
    "0 12 29 3 *",
    "0 4 * OCT,mar SUN#4",
    "0 3 L * *",
]


def numbers(field: str, low: int, high: int) -> set[int]:
    """Lists, ranges, steps: all that the expressions above have in their first two fields."""
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        first, _, end = (f"{low}-{high}" if span == "*" else span).partition("-")
        found.update(range(int(first), int(end or first) + 1, int(step or 1)))
    return found


def day_matches(fields: list[str], day: date) -> bool:
    of_month, months, of_week = fields[2:]
    known = {"oct": 10, "mar": 3, "3": 3}
    if months != "*" and day.month not in {known[name.lower()] for name in months.split(",")}:
        return False
    if of_month == "L" and (day + timedelta(1)).day != 1:
        return False
    if of_month not in ("*", "L") and day.day != int(of_month):
        return False
    if of_week == "*":
        return True
    return day.weekday() == 6 and (of_week == "sun" or (day.day - 1) // 7 == 3)


def model(expression: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[int]:
    """Every tick in [begin, end): by trying every minute there is, or every minute that a calendar without zones has."""
    *first, minute, hour, day, month, week = expression.split()
    seconds = numbers(first[0], 0, 59) if first else {0}
    fields = [minute, hour, day, month, week]
    minutes, hours = numbers(minute, 0, 59), numbers(hour, 0, 23)

    def matches(shown: datetime) -> bool:
        return shown.minute in minutes and shown.hour in hours and day_matches(fields, shown.date())

    found = set()
    if minute.startswith("*") or hour.startswith("*"):
        moment = begin
        while moment < end:
            if matches(moment.astimezone(zone)):
                found.add(moment)
            moment += timedelta(minutes=1)
    else:
        shown = begin.astimezone(zone).replace(tzinfo=None) - timedelta(days=2)
        while shown < end.astimezone(zone).replace(tzinfo=None):
            if matches(shown):
                real = shown
                while real.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != real:
                    real += timedelta(minutes=1)
                moment = real.replace(tzinfo=zone, fold=0).astimezone(UTC)
                if begin <= moment < end:
                    found.add(moment)
            shown += timedelta(minutes=1)
    return sorted(int(moment.timestamp()) + second for moment in found for second in seconds)


def ticks(expression: str, zone: str, begin: datetime, end: datetime) -> list[int]:
    found, moment = [], int(begin.timestamp()) - 1
    when = schedule(expression, zone)
    while (following := when.after(moment)) is not None and following < end.timestamp():
        found.append(following)
        moment = following
    return found


@pytest.mark.parametrize(("zone", "day"), CHANGES, ids=str)
@pytest.mark.parametrize("seconds", ["", "30 ", "5,40 "])
def test_days_on_which_clocks_change_are_as_the_model_has_them(zone: str, day: date, seconds: str):
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=30)
    end = begin + timedelta(hours=78)
    for expression in EXPRESSIONS:
        wanted = model(seconds + expression, ZoneInfo(zone), begin, end)
        assert ticks(seconds + expression, zone, begin, end) == wanted, expression


@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "0,30 30 1,2,3 * * *", "*/10 2 * * *", "0 */2 * * *", "45 15,45 2 * * *"]
)
@pytest.mark.parametrize(("zone", "day"), CHANGES[:6], ids=str)
def test_next_tick_is_the_same_from_wherever_one_asks(expression: str, zone: str, day: date):
    """No worker that looks a little earlier or later has another schedule."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=12)
    found = ticks(expression, zone, begin, begin + timedelta(hours=36))
    when = schedule(expression, zone)
    for before, tick in pairwise(found):
        for moment in {before, before + 1, (before + tick) // 2, tick - 61, tick - 1}:
            if before <= moment < tick:
                assert when.after(moment) == tick


def shown(expression: str, zone: str, since: datetime, count: int) -> list[str]:
    found = coming(schedule(expression, zone), since.timestamp(), count)
    return [f"{datetime.fromtimestamp(tick, ZoneInfo(zone)):%m-%d %H:%M:%S %z}" for tick in found]


def test_time_that_is_skipped_comes_at_the_end_of_the_gap_and_one_that_comes_twice_is_taken_once():
    spring, autumn = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert shown("30 2 * * *", "Europe/Berlin", spring, 2) == ["03-29 03:00:00 +0200", "03-30 02:30:00 +0200"]
    assert shown("30 2 * * *", "Europe/Berlin", autumn, 2) == ["10-25 02:30:00 +0200", "10-26 02:30:00 +0100"]
    assert shown("7 30 2 * * *", "Europe/Berlin", spring, 2) == ["03-29 03:00:07 +0200", "03-30 02:30:07 +0200"]
    assert shown("7 30 2 * * *", "Europe/Berlin", autumn, 2) == ["10-25 02:30:07 +0200", "10-26 02:30:07 +0100"]


def test_nicknames_names_and_lengths():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert shown("@hourly", "UTC", now, 1) == ["01-01 01:00:00 +0000"]
    assert shown("@yearly", "UTC", now, 1) == ["01-01 00:00:00 +0000"]
    assert shown("0 4 * jan mon-fri", "UTC", now, 2) == ["01-01 04:00:00 +0000", "01-02 04:00:00 +0000"]
    assert schedule("@every 1h30m") == Every(5400)
    assert schedule("@every 10s").after(1_700_000_001) == 1_700_000_010
    assert schedule("*/20 * * * * *").after(59) == 60


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "0 0 31 2 *",
        "0 0 30 feb *",
        "@never",
        "@reboot",
        "@every",
        "@every 0s",
        "@every 10",
        "@every 1.5s",
        "@every -5s",
        "@every 400d",
        "* * * * mon-",
        "a b c d e",
        "*/0 * * * *",
        "L/2 * * * *",
        "5-1 * * * *",
        "x" * 500,
        "0 4 * * * Europe/Berlin",
        "² * * * *",
        "* * * * ²L",
        "1,,2 * * * *",
        None,
        7,
        ["* * * * *"],
    ],
)
def test_expression_that_cannot_be_is_refused(expression: object):
    with pytest.raises((ValueError, TypeError)) as refused:
        schedule(expression)
    assert not isinstance(refused.value, TypeError) or isinstance(expression, list)  # what can't be hashed


@pytest.mark.parametrize(
    "zone",
    ["Mars/Base", "", "../../etc/passwd", "/etc/localtime", "Europe", "localtime", "CEST ", "Europe/Berlin\0", None, 7],
)
def test_zone_that_cannot_be_is_refused(zone: object):
    with pytest.raises(ValueError, match="a zone is a name like"):
        schedule("0 4 * * *", zone)


def test_release_of_the_time_zone_data_is_known():
    assert zone_data() == "unknown" or zone_data()[:2] == "20"


# ── what is made up for ────────────────────────────────────────────────────────────────────────────────────────────────

EACH = Every(10)


def test_tick_in_time_is_pushed_whatever_is_said_of_missed_ones():
    for missed in ("one", "all", "skip"):
        assert plan(EACH, 1000, 1000.01, missed, 3600) == plan(EACH, 1000, 1009.9, missed, 3600)
        made = plan(EACH, 1000, 1000.01, missed, 3600)
        assert (made.push, made.missed, made.next_s, made.earlier) == ((1000,), (), 1010, False)


def test_of_missed_ticks_the_newest_is_made_up_for_or_all_or_none():
    assert plan(EACH, 1000, 1047, "one", 3600).push == (1040,)
    assert plan(EACH, 1000, 1047, "one", 3600).earlier
    assert plan(EACH, 1000, 1047, "all", 3600).push == (1000, 1010, 1020, 1030, 1040)
    hour = Every(3600)
    assert plan(hour, 3600, 3600 + 59, "skip", 0).push == (3600,)
    assert plan(hour, 3600, 3600 + 61, "skip", 0) == plan(hour, 3600, 3600 + 61, "one", 30)
    assert plan(hour, 3600, 3600 + 61, "skip", 0).missed == (3600,)


def test_after_a_long_outage_the_newest_hundred_are_made_up_for_oldest_first():
    made = plan(schedule("* * * * * *", "Europe/Berlin"), 1_700_000_000, 1_700_300_000.5, "all", 3600)
    assert made.push == tuple(range(1_700_299_901, 1_700_300_001))
    assert (made.earlier, made.next_s) == (True, 1_700_300_001)


@pytest.mark.parametrize("forged", [math.nan, -math.inf, math.inf, -5.0, 0.5, 1e18, 999.5])
def test_forged_score_is_no_tick(forged: float):
    made = plan(EACH, forged, 1005.0, "one", 3600)
    assert made.next_s == 1010
    assert set(made.push) <= {1000}


@given(
    st.integers(0, 3000),
    st.integers(0, 3000),
    st.sampled_from([Every(7), schedule("*/2 3 * * * *"), schedule("1,5 * * * * *")]),
)
def test_last_tick_is_found_by_halving(after: int, length: int, when: Every):
    every = [tick for tick in range(after + 1, after + length + 1) if when.after(tick - 1) == tick]
    assert last(when, after, after + length) == (every[-1] if every else None)


def test_no_tick_is_left_out_on_the_way_through_a_year():
    when, moment = schedule("*/15 * * * *", "America/New_York"), 1_767_225_600
    for _ in range(366 * 96):
        moment = when.after(moment)
    assert moment == 1_767_225_600 + 366 * 96 * 900


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("* * * * *", "UTC"),
        ("*/20 * * * * *", "Europe/Berlin"),
        ("30 2 * * *", "Europe/Berlin"),
        ("15 */2 * * *", "Australia/Lord_Howe"),
        ("* 4 29 2 *", "UTC"),
        ("0,7 3 1 1 *", "America/New_York"),
        ("@every 7s", "UTC"),
    ],
)
@pytest.mark.parametrize("most", [1, 3, 100])
def test_newest_ticks_are_those_that_a_walk_through_all_would_find(expression: str, zone: str, most: int):
    when = schedule(expression, zone)
    chance = random.Random(f"{expression} {zone} {most}")
    for _ in range(12):
        until_s = chance.randrange(1_580_000_000, 1_800_000_000)
        after_s = until_s - chance.choice([0, 1, 100, 5000, 100_000])
        walked = list(itertools.takewhile(until_s.__ge__, when.ticks(after_s)))
        assert newest_of(when, after_s, until_s, most) == walked[-most:]


class Counted:
    """A schedule that counts how many ticks were asked for."""

    def __init__(self, expression: str) -> None:
        self._when = schedule(expression)
        self.asked = 0

    def after(self, moment_s: int) -> int | None:
        return next(self.ticks(moment_s), None)

    def ticks(self, moment_s: int) -> Iterator[int]:
        for tick_s in self._when.ticks(moment_s):
            self.asked += 1
            yield tick_s


@pytest.mark.parametrize("expression", ["* * * * * *", "* 4 29 2 *", "0 0 1 1 *", "*/7 * * feb *"])
@pytest.mark.parametrize("missed", ["one", "all", "skip"])
def test_years_of_missed_ticks_take_a_moment(expression: str, missed: Any):
    """A score that somebody forged, or a fleet that slept: whoever decides holds up all jobs of its worker."""
    when = Counted(expression)
    plan(when, 0.0, 1_790_000_000.0, missed, 3600)
    assert when.asked < 5000
