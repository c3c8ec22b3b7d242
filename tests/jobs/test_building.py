"""A round trip: what `handler.job(…)` takes is what the handler gets, over JSON, for every type that may be declared."""

from __future__ import annotations

import dataclasses
import enum
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypedDict, TypeVar, Union
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers import App, BadJob, ConfigurationError, Context, GlobalID, Job, Range, Symbol
from trioworkers.errors import BadCall
from trioworkers.jobs.conversion import scalars
from trioworkers.wire.decode import decode
from trioworkers.wire.encode import encode
from trioworkers.wire.plain import plain

T = TypeVar("T")
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


def shown(value: Any) -> str:
    """The id of a parameter: the same in every process."""
    return re.sub("0x[0-9a-f]+", "…", str(value))[:60]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class State(enum.Enum):
    """A member is no number itself, though its value is one: so are most enums."""

    WAITING = enum.auto()
    DONE = enum.auto()


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


@attrs.frozen
class Secretive:
    _token: str
    size: int = 0


@attrs.frozen
class Holder:
    inner: Secretive
    many: dict[int, Secretive]


@dataclasses.dataclass
class Counts:
    by_id: dict[int, int]
    holder: Secretive
    tags: frozenset[str] = frozenset()


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node]


class Options(TypedDict, total=False):
    fast: bool
    at: datetime


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Packet(msgspec.Struct):
    size: int
    at: datetime | None = None
    renamed: str = msgspec.field(default="", name="otherName")


class Step(NamedTuple):
    state: State
    next: State | None = None


class Frozen(pydantic.BaseModel, frozen=True):
    x: int


class HeldModels(msgspec.Struct, rename="camel", tag=True):
    """What msgspec itself can't write: a model, an attribute with an underscore."""

    frozen_one: Frozen
    token: Secretive
    more: list[Frozen] = []
    state: State = State.DONE


class HeldInArray(msgspec.Struct, array_like=True, tag="held"):
    model: Frozen
    token: Secretive | None = None


class Usual(msgspec.Struct, omit_defaults=True):
    model: Frozen | None = None
    many: list[int] = []
    unset: int | msgspec.UnsetType = msgspec.UNSET


class Model(pydantic.BaseModel):
    at: datetime
    price: Decimal
    aliased: int = pydantic.Field(alias="theOther")
    colour: Colour = Colour.RED
    by_id: dict[int, str] = {}


class LeavesOut(pydantic.BaseModel):
    x: int
    cached: str = pydantic.Field(default="", exclude=True)


class HoldsThose(pydantic.BaseModel):
    many: dict[str, list[LeavesOut]]


class Secret(pydantic.BaseModel):
    password: pydantic.SecretStr


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    x: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.x


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Box(pydantic.BaseModel, Generic[T]):
    it: T


@pydantic.dataclasses.dataclass
class Checked:
    age: pydantic.PositiveInt


Bounded = Annotated[int, msgspec.Meta(ge=1, le=10)]
SINCE, UNTIL = datetime(1900, 1, 1), datetime(2200, 1, 1)  # noqa: DTZ001 - hypothesis adds the zone
MOMENTS = st.datetimes(SINCE, UNTIL, timezones=st.sampled_from([None, UTC]))
SECRETIVE = st.builds(Secretive, TEXT, INT64)
NODES = st.recursive(
    st.builds(Node, INT64, st.just([])), lambda inner: st.builds(Node, INT64, st.lists(inner, max_size=3)), max_leaves=5
)
FROZEN = st.builds(Frozen, x=INT64)
MODELS = st.builds(
    Model,
    at=MOMENTS,
    price=st.decimals(allow_nan=False, allow_infinity=False),
    theOther=INT64,
    colour=st.sampled_from(Colour),
    by_id=st.dictionaries(INT64, TEXT, max_size=3),
)
OWN: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Any, JSON),
    (None, st.none()),
    (bool, st.booleans()),
    (int, INT64),
    (float, FINITE),
    (str, TEXT),
    (bytes, st.binary(max_size=20)),
    (datetime, MOMENTS),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas(timedelta(days=-9999), timedelta(days=9999))),
    (uuid.UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1] | None, st.sampled_from(["a", 1, None])),
    (int | str | None, INT64 | TEXT | st.none()),
    (list[int], st.lists(INT64, max_size=5)),
    (Sequence[datetime], st.lists(MOMENTS, max_size=3)),
    (tuple[int, str], st.tuples(INT64, TEXT)),
    (tuple[float, ...], st.lists(FINITE, max_size=3).map(tuple)),
    (set[int], st.sets(INT64, max_size=5)),
    (frozenset[date], st.frozensets(st.dates(), max_size=5)),
    (dict[str, Any], st.dictionaries(TEXT, JSON, max_size=3)),
    (Mapping[int, list[int]], st.dictionaries(INT64, st.lists(INT64, max_size=2), max_size=3)),
    (dict[float, str], st.dictionaries(FINITE, TEXT, max_size=3)),
    (dict[date, int], st.dictionaries(st.dates(), INT64, max_size=3)),
    (dict[datetime, int], st.dictionaries(st.datetimes(), INT64, max_size=3)),
    (dict[uuid.UUID, int], st.dictionaries(st.uuids(), INT64, max_size=3)),
    (dict[Colour, int], st.dictionaries(st.sampled_from(Colour), INT64)),
    (dict[Level, int], st.dictionaries(st.sampled_from(Level), INT64)),
    (dict[Literal[1, 2], int], st.dictionaries(st.sampled_from([1, 2]), INT64)),
    (Bounded, st.integers(1, 10)),
    (list[Bounded], st.lists(st.integers(1, 10), max_size=3)),
    (Secretive, SECRETIVE),
    (Secretive | None, SECRETIVE | st.none()),
    (list[Secretive], st.lists(SECRETIVE, max_size=3)),
    (set[Secretive], st.sets(SECRETIVE, max_size=3)),
    (Holder, st.builds(Holder, SECRETIVE, st.dictionaries(INT64, SECRETIVE, max_size=3))),
    (
        Counts,
        st.builds(
            Counts,
            st.dictionaries(INT64, INT64, max_size=3),
            SECRETIVE,
            st.frozensets(TEXT, max_size=3),
        ),
    ),
    (Node, NODES),
    (Options, st.fixed_dictionaries({}, optional={"fast": st.booleans(), "at": MOMENTS})),
    (Point, st.builds(Point, FINITE, FINITE)),
    (Packet, st.builds(Packet, INT64, MOMENTS | st.none(), TEXT)),
    (State, st.sampled_from(State)),
    (Mode, st.sampled_from(Mode)),
    (list[State], st.lists(st.sampled_from(State), max_size=3)),
    (set[State] | None, st.sets(st.sampled_from(State)) | st.none()),
    (dict[State, tuple[State, ...]], st.dictionaries(st.sampled_from(State), st.tuples(st.sampled_from(State)))),
    (Step, st.builds(Step, st.sampled_from(State), st.sampled_from(State))),
    (HeldModels, st.builds(HeldModels, FROZEN, SECRETIVE, st.lists(FROZEN, max_size=2))),
    (list[HeldInArray], st.lists(st.builds(HeldInArray, FROZEN, SECRETIVE | st.none()), max_size=2)),
    (Usual, st.builds(Usual, FROZEN | st.none(), st.lists(INT64, max_size=2))),
]
PYDANTIC: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Model, MODELS),
    (list[Model], st.lists(MODELS, max_size=2)),
    (Model | None, MODELS | st.none()),
    (pydantic.PositiveInt, st.integers(1, 2**62)),
    (dict[int, pydantic.PositiveInt], st.dictionaries(INT64, st.integers(1, 2**62), max_size=3)),
    (Annotated[datetime, pydantic.Field()], MOMENTS),
    (Annotated[Decimal, pydantic.Field()], st.decimals(allow_nan=False, allow_infinity=False)),
    (Annotated[set[int], pydantic.Field()], st.sets(INT64, max_size=3)),
    (Checked, st.builds(Checked, st.integers(1, 100))),
    (pydantic.EmailStr, st.just("a@example.org")),
    (pydantic.Json[list[int]], st.lists(INT64, max_size=3)),
    (Computed, st.builds(Computed, x=INT64)),
    (Numbers, st.builds(Numbers, root=st.lists(INT64, max_size=3))),
    (pydantic.JsonValue, JSON),
    (Box[datetime], st.builds(Box[datetime], it=MOMENTS)),
    (set[Frozen], st.sets(FROZEN, max_size=3)),
    (
        HoldsThose,
        st.builds(HoldsThose, many=st.dictionaries(TEXT, st.lists(st.builds(LeavesOut, x=INT64), max_size=2))),
    ),
]


def declare(annotation: Any, **options: Any) -> Any:
    async def handler(ctx: Context, value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    return App().handler("q", "A", **options)(handler)


def over_the_wire(handler: Any, job: Job) -> Any:
    args, kwargs = handler.bind(decode(encode(job, 1.0), "q"))
    return args[0] if args else kwargs["value"]


@pytest.mark.parametrize(("annotation", "values"), OWN + PYDANTIC, ids=shown)
def test_handler_gets_what_its_job_was_built_with(annotation: Any, values: st.SearchStrategy[Any]):
    handler, unchecked = declare(annotation), declare(annotation, check=False)

    @given(values)
    def trip(value: Any) -> None:
        got = over_the_wire(handler, handler.job(value))
        assert got == value
        assert annotation is Any or type(got) is type(value)
        assert over_the_wire(handler, handler.job(value=value)) == value
        assert over_the_wire(handler, unchecked.job(value)) == value

    trip()


def _rails_keeps(annotation: Any) -> bool:
    """What has no like in Ruby, or none that is told apart: keys are texts there."""
    return "dict[" not in str(annotation) and "Mapping" not in str(annotation)


@pytest.mark.parametrize(
    ("annotation", "values"),
    [one for one in OWN + PYDANTIC if _rails_keeps(one[0]) and one[0] is not Any],
    ids=shown,
)
def test_handler_gets_what_its_active_job_was_built_with(annotation: Any, values: st.SearchStrategy[Any]):
    handler = declare(annotation)

    # Hypothesis tries the texts that stand in our code, too: keys that ActiveJob keeps for itself are refused (see below).
    @given(values.filter(lambda value: "'_aj_" not in repr(value)))
    def trip(value: Any) -> None:
        assert _moments(over_the_wire(handler, handler.active_job(value))) == _moments(value)
        assert _moments(over_the_wire(handler, handler.active_job(value=value))) == _moments(value)

    trip()


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
        datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN),
    ],
    ids=["twice, first", "twice, second", "skipped"],
)
@pytest.mark.parametrize(
    ("annotation", "around"),
    [
        (datetime, lambda at: at),
        (pydantic.AwareDatetime, lambda at: at),
        (Model, lambda at: Model(at=at, price=Decimal(1), theOther=3)),
        (Box[dict[datetime, list[datetime]]], lambda at: Box[dict[datetime, list[datetime]]](it={at: [at]})),
        (Box[set[datetime]], lambda at: Box[set[datetime]](it={at})),
    ],
    ids=["datetime", "AwareDatetime", "Model", "Box of a dict", "Box of a set"],
)
def test_moments_of_an_hour_that_a_zone_has_twice_or_not_at_all_are_sent(
    moment: datetime, annotation: Any, around: Callable[[datetime], Any]
):
    handler = declare(annotation)
    for job in (handler.job(around(moment)), handler.active_job(around(moment))):
        assert _in_utc(over_the_wire(handler, job)) == _in_utc(around(moment))


@pytest.mark.parametrize("key", ["_aj_globalid", "_aj_symbol_keys", "_aj_ruby2_keywords"])
def test_keys_that_active_job_keeps_for_itself_are_refused(key: str):
    with pytest.raises(BadJob, match="ActiveJob's own"):
        encode(declare(pydantic.JsonValue).active_job([{key: 1}]), 1.0)


def _in_utc(value: Any) -> Any:
    """What it is and holds, without Python's doubts about moments of such hours."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, Model):
        return _in_utc(value.at)
    if isinstance(value, dict):
        return {_in_utc(key): _in_utc(item) for key, item in value.items()}
    return [*map(_in_utc, value)] if isinstance(value, list | set) else _in_utc(value.it)


def _moments(value: Any) -> Any:
    """Rails' moments all have a zone. Compared to the microsecond, not as floats, which round."""
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC)
        except (OverflowError, ValueError):
            return None
    if isinstance(value, list):
        return [*map(_moments, value)]
    if isinstance(value, dict):
        return {key: _moments(item) for key, item in value.items()}
    return (value.size, _moments(value.at), value.renamed) if isinstance(value, Packet) else value


# ── the named ones ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_private_attribute_of_an_attrs_class_is_sent_also_by_a_job_that_names_its_class():
    assert decode(encode(Job("q", "A", [Holder(Secretive("t"), {})]), 1.0), "q").args == (
        {"inner": {"_token": "t", "size": 0}, "many": {}},
    )


def test_pydantic_model_is_sent_also_by_a_job_that_names_its_class():
    model = Model(at=datetime(2026, 1, 2, tzinfo=UTC), price=Decimal("1.10"), theOther=3)
    args = decode(encode(Job("q", "A", [{"m": [model]}]), 1.0), "q").args
    assert args[0]["m"][0] == {
        "at": "2026-01-02T00:00:00Z",
        "price": "1.10",
        "theOther": 3,
        "colour": "red",
        "by_id": {},
    }


@pytest.mark.parametrize(
    "struct",
    [
        Packet(1, datetime(2026, 1, 2, tzinfo=UTC), "x"),
        Usual(),
        Usual(many=[1], unset=3),
        Usual(None, []),
    ],
    ids=shown,
)
def test_struct_is_written_as_msgspec_writes_it(struct: msgspec.Struct):
    assert plain(struct) == msgspec.to_builtins(struct)


def test_rubys_values_stay_rubys_in_an_active_job():
    handler = declare(Range)
    assert handler.active_job(Range(1, 3)).args == (Range(1, 3),)
    assert over_the_wire(handler, handler.active_job(Range(1, 3))) == Range(1, 3)
    assert over_the_wire(declare(GlobalID), declare(GlobalID).active_job(GlobalID("gid://a/B/1"))).id == "1"
    assert declare(Symbol).active_job(Symbol("now")).args == (Symbol("now"),)


@dataclasses.dataclass
class Wider(Node):
    more: int = 0


class WiderModel(Model):
    more: int = 0


@attrs.define(eq=False)
class ByIdentity:
    many: set[int]


@attrs.define(eq=False)
class Incomparable:
    x: int

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    def __hash__(self) -> int:
        return 0


def test_class_whose_comparison_fails_is_compared_by_what_it_carries():
    handler = declare(Incomparable)
    assert over_the_wire(handler, handler.job(Incomparable(3))).x == 3


def test_class_without_equality_is_compared_by_what_it_carries():
    handler = declare(ByIdentity)
    assert over_the_wire(handler, handler.job(ByIdentity({3, 1, 2, 2**40}))).many == {3, 1, 2, 2**40}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "7"),
        (int, None),
        (int, 7.5),
        (str, 7),
        (str, b"x"),
        (bool, 1),
        (list[int], ["hunter2"]),
        (list[int], 7),
        (Bounded, -5),
        (Bounded, 11),
        (pydantic.PositiveInt, -5),
        (Literal["a"], "hunter2"),
        (Colour, "hunter2"),
        (Secretive, {"_token": 7}),
        (Secretive, Secretive(7)),  # type: ignore[arg-type]
        (Checked, {"age": -5}),
        (Model, Model.model_construct(at="hunter2")),
        (Model, WiderModel(at=datetime(2026, 1, 2, tzinfo=UTC), price=Decimal(1), theOther=3)),
        (Node, Wider(1, [])),  # its `more` would be lost
        (Options, {"fast": True, "more": 1}),
        (State, Colour.RED),
        (list[State], [Mode.READ]),
        (LeavesOut, LeavesOut(x=1, cached="hunter2")),
        (HoldsThose, HoldsThose(many={"a": [LeavesOut(x=1), LeavesOut(x=1, cached="hunter2")]})),
        (set[Frozen], {"hunter2"}),
        (Secret, Secret(password=pydantic.SecretStr("hunter2"))),  # written as asterisks
        (pydantic.SecretStr, pydantic.SecretStr("hunter2")),
        (float, float("nan")),
        (list[float], [float("inf")]),
        (Any, float("nan")),
        (Any, {1: "a"}),
        (dict[str, Any], {"a": {1: "a"}}),
        (Any, object()),
        (dict[int, str], {1.5: "x"}),
        (dict[int, str], {"hunter2": "x"}),
    ],
    ids=shown,
)
def test_job_that_its_handler_could_not_read_is_not_built(annotation: Any, value: Any):
    handler = declare(annotation)
    for build in (handler.job, handler.active_job):
        if annotation is Any and build == handler.active_job:
            continue  # Ruby's own form decides, when it is sent
        for kwargs in ({}, {"value": value}):
            with pytest.raises(TypeError, match=r"handler handler \(class 'A' on queue 'q'\)") as caught:
                build(*([] if kwargs else [value]), **kwargs)
            assert isinstance(caught.value, BadJob)
            assert "hunter2" not in str(caught.value)
            assert "value" in str(caught.value)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ([], {}, "argument 1 (value) is missing: expected int, got 0 arguments"),
        ([1, 2], {}, "expected at most 1 argument, got 2"),
        ([1], {"value": 2}, "argument value is given by position and by name"),
        ([1], {"other": 2}, "unexpected keyword argument 'other'; known: value"),
        ([1], {"ctx": 2}, "unexpected keyword argument 'ctx'"),
    ],
)
def test_call_that_the_function_does_not_take_is_told_with_the_handlers_name(args: Any, kwargs: Any, words: str):
    for handler in (declare(int), declare(int, check=False)):
        for build in (handler.job, handler.active_job):
            with pytest.raises(TypeError) as caught:
                build(*args, **kwargs)
            assert str(caught.value).startswith("handler handler (class 'A' on queue 'q'): ")
            assert words in str(caught.value)


def test_types_are_not_looked_at_where_the_handler_says_so():
    assert declare(int, check=False).job("7").args == ("7",)
    assert declare(Bounded, check=False).job(-5).args == (-5,)


def test_star_takes_any_number_and_checks_each():
    async def many(first: int, *rest: Secretive) -> None: ...

    handler = App().handler("q", "A")(many)
    assert handler.job(1, Secretive("a"), Secretive("b")).args[2] == {"_token": "b", "size": 0}
    with pytest.raises(TypeError, match=r"argument 3 \(rest\)"):
        handler.job(1, Secretive("a"), "hunter2")


def test_job_of_every_class_is_not_built():
    async def any_class(*args: Any) -> None: ...

    handler = App().handler("q", "*")(any_class)
    with pytest.raises(TypeError, match="takes every class"):
        handler.job(1)


def test_check_is_true_or_false():
    with pytest.raises(ConfigurationError, match="check"):
        App().handler("q", check="no")  # type: ignore[arg-type]


def test_what_can_be_given_by_name_only_is_not_forgotten():
    async def named(value: int = 1, *, other: str) -> None: ...

    handler = App().handler("q", "A")(named)
    for args in ([], [1]):
        with pytest.raises(TypeError, match="keyword argument other is missing"):
            handler.job(*args)


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (int, {int}),
        (str, {str}),
        (bool, {bool}),
        (None, {type(None)}),
        (int | None, {int, type(None)}),
        (Optional[str], {str, type(None)}),  # noqa: UP045 - as some write it
        (Union[int, str, bool], {int, str, bool}),  # noqa: UP007 - as some write it
        (Any, {int, str, bool, type(None)}),
        (float, set()),  # NaN is one
        (int | float, set()),
        (int | datetime, set()),
        (Literal["a"], set()),
        (Annotated[int, msgspec.Meta(gt=0)], set()),
        (Level, set()),
        (list[int], set()),
        (object, set()),
    ],
    ids=shown,
)
def test_only_what_any_value_of_a_type_is_to_its_handler_travels_unread(annotation: Any, values: set[type]):
    assert scalars(annotation) == values


@pytest.mark.parametrize("annotation", [datetime, Any, list[datetime]])
def test_moment_of_a_zone_whose_offset_has_seconds_stays_that_moment(annotation: Any):
    async def handler(value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    declared = App().handler("q", "A")(handler)
    moment = datetime(1890, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))  # 53 minutes and 28 seconds from Greenwich
    job = declared.job([moment] if annotation == list[datetime] else moment)
    text = job.args[0][0] if annotation == list[datetime] else job.args[0]
    assert datetime.fromisoformat(text) == moment


def test_moment_before_the_first_that_can_be_written_is_refused():
    @App().handler("q", "A")
    async def handler(value: datetime) -> None: ...

    with pytest.raises(BadCall, match="argument 1"):
        handler.job(datetime(1, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")))


def test_parameter_may_be_called_self():
    @App().handler("q", "A")
    async def handler(ctx: Context, x: int, self: int) -> None: ...

    assert handler.job(1, self=2).args == (1, 2)
    assert handler.active_job(1, self=2).kwargs == {"self": 2}
