"""Limits as they are declared: what is refused with the line, how a rate is written, by which argument a job is counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers import App, ConfigurationError, Context, FleetLimit, Job
from trioworkers.errors import BadArguments
from trioworkers.wire.argument_key import argument_key
from trioworkers.wire.limit_spec import LimitSpec, interval_s, shown_rate


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "limits nothing"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"concurrency": 10**10}, "concurrency"),
        ({"rate": "0/s"}, "rate"),
        ({"rate": "5/0s"}, "rate"),
        ({"rate": "fast"}, "rate"),
        ({"rate": 100}, "rate"),
        ({"rate": "1/99999999d"}, "rate"),
        ({"rate": "10/s", "burst": 0}, "burst"),
        ({"concurrency": 1, "burst": 5}, "burst"),
        ({"concurrency": 1, "by": "no name"}, "by"),
        ({"concurrency": 1, "by": ("a", "b")}, "by"),
    ],
)
def test_limit_that_is_none_is_refused_where_it_is_declared(options: dict[str, Any], says: str):
    with pytest.raises(ConfigurationError, match=says):
        FleetLimit("crm", **options)


@pytest.mark.parametrize("name", ["a:b", "@a", "", "x" * 65, "a b", "ä", None])
def test_name_that_could_be_mistaken_is_refused(name: Any):
    with pytest.raises(ConfigurationError, match="name"):
        App().handler("q", "A", limit=FleetLimit(name, concurrency=1))


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [("100/s", 0.01), ("20/m", 3), ("5/10s", 2), ("1000/h", 3.6), ("1/d", 86_400), ("0.5/s", 2), ("3/2h", 2400)],
)
def test_rates(rate: str, seconds: float):
    assert interval_s(rate) == pytest.approx(seconds)


@given(st.floats(1e-4, 1e6))
def test_shown_rate_is_that_rate(between_s: float):
    assert interval_s(shown_rate(between_s)) == pytest.approx(between_s, rel=1e-4) if between_s < 86_400 else True


def named(function: Callable[..., Any], job: Job, by: str = "tenant") -> str:
    handler = App().handler("q", "A", limit=FleetLimit("crm", concurrency=1, by=by))(function)
    [limit] = handler.limits
    return limit.name_for(job)


async def plain(number: int, tenant: str = "nobody") -> None: ...
async def with_context(ctx: Context, tenant: str) -> None: ...
async def by_name(*, tenant: str) -> None: ...


def test_argument_is_found_by_place_by_name_and_by_default():
    assert named(plain, Job("q", "A", [1, "a"])) == 'crm:"a"'
    assert named(plain, Job("q", "A", [1])) == 'crm:"nobody"'
    assert named(with_context, Job("q", "A", ["a"])) == 'crm:"a"'
    assert named(by_name, Job("q", "A", kwargs={"tenant": 7})) == "crm:7"


@pytest.mark.parametrize("by", ["nothing", "ctx", "args"])
def test_argument_that_the_handler_does_not_have_is_refused_at_the_decorator(by: str):
    async def handler(ctx: Context, number: int, *args: int) -> None: ...

    with pytest.raises(ConfigurationError, match="there are: number"):
        App().handler("q", "A", limit=FleetLimit("crm", concurrency=1, by=by))(handler)


def test_same_name_is_the_same_limit_though_the_argument_is_called_otherwise():
    app = App()

    @app.handler("q", "A", limit=FleetLimit("crm", concurrency=1, by="tenant"))
    async def one(tenant: str) -> None: ...

    @app.handler("q", "B", limit=FleetLimit("crm", concurrency=1, by="customer"))
    async def other(customer: str) -> None: ...

    for limit in (
        FleetLimit("crm", concurrency=1),
        FleetLimit("crm", concurrency=2, by="tenant"),
        FleetLimit("crm", rate="1/s", by="tenant"),
    ):
        with pytest.raises(ConfigurationError, match="crm"):
            app.handler("q", "C", limit=limit)(one.function)


@pytest.mark.parametrize("value", [[1], {"a": 1}, "x" * 1100, "\ud800"])
def test_value_that_is_no_key_is_named(value: Any):
    with pytest.raises(BadArguments, match="argument tenant"):
        named(plain, Job("q", "A", [1, value]))


def test_missing_argument_is_named():
    with pytest.raises(BadArguments, match=r"argument tenant.*missing"):
        named(with_context, Job("q", "A", []))


@given(
    st.lists(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.text(max_size=100)
        | st.floats(allow_nan=False),
        min_size=2,
        max_size=2,
    )
)
def test_keys_are_equal_for_equal_values_only(values: list[Any]):
    try:
        one, other = map(argument_key, values)
    except ValueError:
        return
    alike = (type(values[0]), values[0]) == (type(values[1]), values[1])
    assert (one == other) is alike or (values[0] == values[1] == 0)
    assert len(one) <= 64


def test_numbers_for_people():
    assert str(LimitSpec(20, 0.01)) == "20 at once, 100/s"
    assert str(LimitSpec(0, 30.0, 5)) == "2/m, 5 in a burst"
    assert str(LimitSpec(0)) == "no limit"
    assert math.isclose(interval_s("7/3m"), 180 / 7)
