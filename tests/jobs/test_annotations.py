"""What a handler may declare: what is said is obeyed, and what nobody would obey, or no job could become, is refused where it stands."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import inspect
import re
import typing
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)

import annotated_types
import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
import typing_extensions

from trioworkers import App, BadArguments, ConfigurationError, Context, GlobalID, Job, Symbol

T = TypeVar("T")


def shown(value: Any) -> str:
    """The id of a parameter: the same in every process."""
    return re.sub("0x[0-9a-f]+", "…", str(value))[:60]


def declare(annotation: Any) -> Any:
    async def handler(value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    return App().handler("q", "A")(handler)


def read(annotation: Any, value: Any) -> Any:
    """What the handler is called with for a job that another program sent."""
    args, _ = declare(annotation).bind(Job("q", "A", [value]))
    return args[0]


class UserId(int):
    pass


class SubContext(Context):
    pass


class OwnInit:
    def __init__(self, x: int) -> None:
        self.x = x


@attrs.define
class Converted:
    name: str = attrs.field(converter=str.lower)


@attrs.define
class ConvertedToItsOwnType:
    tags: tuple[str, ...] = attrs.field(converter=tuple)


@attrs.define
class WithOwnInit:
    x: int

    def __init__(self, x: int) -> None:
        self.x = x + 1


@dataclasses.dataclass(init=False)
class DataWithOwnInit:
    x: int

    def __init__(self, x: int) -> None:
        self.x = x + 1


@dataclasses.dataclass
class Base:
    x: int


class Derived(Base):
    def __init__(self, x: int) -> None:
        super().__init__(abs(x))


@dataclasses.dataclass
class Computed:
    x: int
    twice: int = dataclasses.field(init=False, default=0)


@attrs.define
class ComputedToo:
    x: int
    twice: int = attrs.field(init=False, default=0)


@dataclasses.dataclass
class InitOnly:
    x: dataclasses.InitVar[int]


@attrs.define
class TakesSelf:
    x: int
    y: int = attrs.field(default=attrs.Factory(lambda self: self.x, takes_self=True))


@attrs.define
class WithoutAnnotation:
    x = attrs.field()


@dataclasses.dataclass
class WithPath:
    at: list[Path]


@attrs.define
class AttrsAroundPydantic:
    age: pydantic.PositiveInt


class StructAroundPydantic(msgspec.Struct):
    age: Annotated[int, pydantic.Field(gt=0)]


class Tupled0(NamedTuple):
    x: int


class Mixed(enum.Enum):
    A = "a"
    B = 2


@dataclasses.dataclass
class Abstract(abc.ABC):
    x: int

    @abc.abstractmethod
    def name(self) -> str: ...


@dataclasses.dataclass
class OwnNew:
    x: int

    def __new__(cls, x: int) -> typing.Self:
        return super().__new__(cls)


class Opaque:
    pass


class WithOpaque(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    it: Opaque


class Unfinished(pydantic.BaseModel):
    it: NowhereDefined  # noqa: F821 - that is the point


@dataclasses.dataclass
class WithOwnSetattr:
    x: int

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, abs(value))


@attrs.define
class AttrsWithOwnSetattr:
    x: int

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, abs(value))


@attrs.define
class LookedAtBefore:
    x: int

    def __attrs_pre_init__(self, x: int) -> None: ...


class NewTuple(Tupled0):
    def __new__(cls, x: int) -> typing.Self:
        return super().__new__(cls, abs(x))


class Closed(typing_extensions.TypedDict, closed=True):  # type: ignore[call-arg]
    x: int


class WithExtraItems(typing_extensions.TypedDict, extra_items=int):  # type: ignore[call-arg]
    x: int


class ConstrainedTypedDict(typing_extensions.TypedDict):
    inner: list[Path]


class StructWithField(msgspec.Struct):
    x: int = pydantic.Field(default=4, gt=3)


@dataclasses.dataclass
class WithFieldOfAttrs:
    x: list[int] = attrs.field(factory=list)  # noqa: RUF009 - that is the fault


@attrs.define
class WithFieldOfDataclasses:
    x: list[int] = dataclasses.field(default_factory=list)  # noqa: RUF009 - that is the fault


class OwnWord:
    """Another library's word in Annotated."""


@pytest.mark.parametrize(
    "annotation",
    [
        Path,
        Optional[Path],  # noqa: UP045 - the older spelling of the same
        list[Path],
        dict[str, Path],
        WithPath,
        IPv4Address,
        UserId,
        OwnInit,
        Iterable[int],
        Iterator[int],
        Generator[int, None, None],
        AsyncIterator[int],
        Callable[[], int],
        collections.deque[int],
        collections.OrderedDict[str, int],
        collections.defaultdict[str, int],
        complex,
        range,
        type,
        Job,
        typing.Never,
        typing.Literal[1.5],
        Mixed,
        datetime | str,
        list[int] | tuple[int, ...],
        dict[int | str, int],
        dict[bool, int],
        dict[None, int],
        dict[tuple[int, int], int],
        dict[typing.Literal["a", 1], int],
        dict[Annotated[bool, msgspec.Meta(title="x")], int],
        Context | int,
        list[Context],
        SubContext,
        SubContext | None,
        Converted,
        WithOwnInit,
        DataWithOwnInit,
        Derived,
        list[Derived],
        Computed,
        ComputedToo,
        InitOnly,
        TakesSelf,
        WithoutAnnotation,
        AttrsAroundPydantic,
        StructAroundPydantic,
        WithOpaque,
        list[WithOpaque],
        Unfinished,
        Annotated[int, OwnWord()],
        Annotated[int, msgspec.Meta(ge=1), annotated_types.Le(3)],
        Annotated[WithPath, msgspec.Meta(title="x")],
        list[Annotated[int, OwnWord]],
        pydantic.SecretStr | Opaque,
        Abstract,
        OwnNew,
        WithOwnSetattr,
        AttrsWithOwnSetattr,
        LookedAtBefore,
        NewTuple,
        Closed,
        list[WithExtraItems],
        ConstrainedTypedDict,
        StructWithField,
        WithFieldOfAttrs,
        WithFieldOfDataclasses,
        msgspec.Raw,
        list[msgspec.Raw],
    ],
    ids=shown,
)
def test_what_no_job_could_become_is_refused_where_it_is_declared(annotation: Any):
    with pytest.raises(ConfigurationError, match="'value'") as caught:
        declare(annotation)
    message = str(caught.value)
    file, line, rest = message.split(":", 2)
    assert file == __file__
    assert "async def handler" in inspect.getsource(inspect.getmodule(declare)).splitlines()[int(line) - 1]
    assert rest.startswith(" handler handler (class 'A' on queue 'q')")
    assert "\n" not in message


def test_model_that_is_not_known_where_the_handler_is_declared_is_named():
    class Local(pydantic.BaseModel):
        x: int

    async def of_a_function(ctx: Context, value: list[Local]) -> None: ...
    async def too_early(ctx: Context, value: dict[str, DeclaredBelow] | None) -> None: ...  # noqa: F821

    for function, name in ((of_a_function, "Local"), (too_early, "DeclaredBelow")):
        with pytest.raises(
            ConfigurationError, match=rf"{__file__}:\d+: .* name {name}, which isn't known here: define"
        ):
            App().handler("q", "A")(function)


async def _ctx_optional(ctx: Context | None, user: int) -> None: ...
async def _ctx_annotated(ctx: Annotated[Context, "the job's"], user: int) -> None: ...
async def _ctx_optional_by_name(ctx: Context | None, user: int) -> None: ...


@pytest.mark.parametrize("function", [_ctx_optional, _ctx_annotated, _ctx_optional_by_name])
def test_context_that_may_be_absent_for_others_is_the_context(function: Any):
    handler = App().handler("q", "A")(function)
    assert handler.wants_context
    assert handler.job(7).args == (7,)


async def _unannotated(ctx, user): ...
async def _any(ctx: Any, user: int) -> None: ...
async def _context(context, user): ...
async def _last(user: int, ctx=None) -> None: ...
async def _keyword(*, ctx: Context) -> None: ...
async def _many(*ctx: Context) -> None: ...
async def _sub(ctx: SubContext, user: int) -> None: ...
async def _second(user: int, ctx: Context) -> None: ...


class Mails:
    async def send(self, user: int) -> None: ...
    async def make(cls, user: int) -> None: ...  # noqa: N805
    async def send_with(self, ctx: Context, user: int) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        *(_unannotated, _any, _context, _last, _keyword, _many, _sub, _second),
        *(Mails.send, Mails.make, Mails.send_with),
    ],
    ids=lambda function: function.__qualname__,
)
def test_context_or_self_that_would_get_an_argument_is_refused(function: Any):
    with pytest.raises(ConfigurationError, match=rf"{__file__}:\d+: .*(Context|self|cls|ctx|context)"):
        App().handler("q", "A")(function)


async def _pydantics_default(x: int = pydantic.Field(default=4, gt=3)) -> None: ...
async def _attrs_default(*, x: list[int] = attrs.Factory(list)) -> None: ...
async def _dataclasses_default(x: list[int] = dataclasses.field(default_factory=list)) -> None: ...
async def _msgspecs_default(x: int = msgspec.field(default=4)) -> None: ...


@pytest.mark.parametrize("function", [_pydantics_default, _attrs_default, _dataclasses_default, _msgspecs_default])
def test_default_that_would_be_an_argument_itself_is_refused(function: Any):
    with pytest.raises(
        ConfigurationError, match=rf"{__file__}:\d+: handler {function.__name__} .*'x': its default is a"
    ):
        App().handler("q", "A")(function)


def test_bound_method_is_a_handler():
    handler = App().handler("q", "A")(Mails().send)
    assert handler.job(7).args == (7,)


def test_name_context_may_be_somebody_elses_class():
    namespace: dict[str, Any] = {}
    source = "class Context: pass\nasync def handler(ctx: 'Context', user: int) -> None: ...\n"
    exec(source, namespace)
    with pytest.raises(ConfigurationError, match="Context"):
        App().handler("q", "A")(namespace["handler"])


# ── obeyed ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


@dataclasses.dataclass
class Bounded:
    age: Annotated[int, msgspec.Meta(ge=1)]


@dataclasses.dataclass
class BoundedByPydantic:
    age: pydantic.PositiveInt


@pydantic.dataclasses.dataclass
class Person:
    age: int

    @pydantic.field_validator("age")
    @classmethod
    def not_negative(cls, age: int) -> int:
        if age < 0:
            raise ValueError(f"hunter2 {age}")
        return age


@attrs.define
class Validated:
    age: int = attrs.field(validator=attrs.validators.ge(1))


@attrs.define
class WithModelInside:
    """It uses pydantic, but says nothing to it."""

    age: int
    adapter: ClassVar[pydantic.TypeAdapter[int]] = pydantic.TypeAdapter(int)

    class Inner(pydantic.BaseModel): ...


@attrs.frozen(slots=False)
class FrozenAttrs:
    age: int = attrs.field(validator=attrs.validators.ge(1))


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenData:
    age: int


class Typed(TypedDict):
    age: NotRequired[Annotated[int, msgspec.Meta(ge=1)]]


class TypedByPydantic(typing_extensions.TypedDict):
    age: pydantic.PositiveInt


class TypedByExtensions(typing_extensions.TypedDict):
    age: Annotated[int, msgspec.Meta(ge=1)]


class StrictlyTyped(typing_extensions.TypedDict):
    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # type: ignore[misc]
    age: int


@dataclasses.dataclass
class DataWithPydanticsField:
    age: int = pydantic.Field(default=4, ge=1)


@dataclasses.dataclass
class DataWithPydanticsValidator:
    age: int

    @pydantic.field_validator("age")
    @classmethod
    def not_negative(cls, age: int) -> int:
        if age < 0:
            raise ValueError("hunter2")
        return age


@dataclasses.dataclass
class DataWithPydanticsConfig:
    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")
    age: int


class Tupled(NamedTuple):
    age: Annotated[int, pydantic.Field(ge=1)]


class Model(pydantic.BaseModel):
    age: pydantic.PositiveInt


Age = NewType("Age", Annotated[int, msgspec.Meta(ge=1)])  # type: ignore[valid-newtype]


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Annotated[int, msgspec.Meta(ge=1)], 5, -5),
        (pydantic.PositiveInt, 5, -5),
        (pydantic.PositiveInt | None, 5, -5),
        (pydantic.PositiveInt, 5, "5"),  # as strict as a plain int
        (Annotated[int, annotated_types.Gt(0)], 5, -5),
        (Annotated[str, pydantic.Field(max_length=2)], "ab", "abc"),
        (Annotated[str, pydantic.AfterValidator(lambda text: 1 / len(text) and text)], "a", ""),
        (list[pydantic.PositiveInt], [5], [-5]),
        (dict[str, Annotated[int, msgspec.Meta(ge=1)]], {"a": 5}, {"a": -5}),
        (Bounded, {"age": 5}, {"age": -5}),
        (BoundedByPydantic, {"age": 5}, {"age": -5}),
        (list[BoundedByPydantic], [{"age": 5}], [{"age": -5}]),
        (Person, {"age": 5}, {"age": -5}),
        (Person | None, {"age": 5}, {"age": -5}),
        (Validated, {"age": 5}, {"age": -5}),
        (Typed, {"age": 5}, {"age": -5}),
        (Tupled, [5], [-5]),
        (TypedByPydantic, {"age": 5}, {"age": -5}),
        (TypedByExtensions, {"age": 5}, {"age": -5}),
        (StrictlyTyped, {"age": 5}, {"age": 5, "hunter2": 1}),
        (DataWithPydanticsField, {"age": 5}, {"age": -5}),
        (DataWithPydanticsValidator, {"age": 5}, {"age": -5}),
        (list[DataWithPydanticsConfig], [{"age": 5}], [{"age": 5, "hunter2": 1}]),
        (Model, {"age": 5}, {"age": -5}),
        (Page[Annotated[int, msgspec.Meta(ge=1)]], {"items": [5]}, {"items": [-5]}),
        (Age, 5, -5),
        (list[Age], [5], [-5]),
        (pydantic.EmailStr, "a@example.org", "hunter2"),
        (pydantic.FilePath, __file__, "/hunter2"),
        (pydantic.conint(ge=1), 5, -5),
        (pydantic.Json[list[int]], "[1]", "[hunter2]"),
        (list[pydantic.JsonValue], [{"a": [1]}], "hunter2"),
        (pydantic.UUID4, "7d5a3c0e-5a0b-4a53-9d2a-9c5f2c0c1f11", "hunter2"),
        (Final[int], 5, "x"),
    ],
    ids=shown,
)
def test_constraint_is_obeyed(annotation: Any, good: Any, bad: Any):
    declare(annotation)
    assert read(annotation, good) is not None
    with pytest.raises(BadArguments, match=r"A: argument 1 \(value\)") as caught:
        read(annotation, bad)
    assert "hunter2" not in str(caught.value)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    at: datetime
    count: int


def test_strict_model_reads_the_texts_that_json_has_for_dates():
    assert read(Strict, {"at": "2026-01-02T03:04:05Z", "count": 1}).at.year == 2026
    with pytest.raises(BadArguments, match="valid integer, in field count"):
        read(Strict, {"at": "2026-01-02T03:04:05Z", "count": "1"})


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (dict[Annotated[int, msgspec.Meta(ge=1)], str], {"1": "a"}, {1: "a"}),
        (list[dict[int, list[int]]], [{"1": [2]}], [{1: [2]}]),
        (object, {"a": 1}, {"a": 1}),
        (T, {"a": 1}, {"a": 1}),
        (Symbol, "now", Symbol("now")),
        (GlobalID, {"uri": "gid://shop/User/7"}, GlobalID("gid://shop/User/7")),
        (Annotated[int, "a number"], 5, 5),
        (DataWithPydanticsField, {}, DataWithPydanticsField(4)),
        (WithModelInside, {"age": 5}, WithModelInside(5)),
        (FrozenAttrs, {"age": 5}, FrozenAttrs(5)),
        (FrozenData, {"age": 5}, FrozenData(5)),
        (ConvertedToItsOwnType, {"tags": ["a"]}, ConvertedToItsOwnType(("a",))),
        (None, None, None),
    ],
    ids=shown,
)
def test_can_be_bound(annotation: Any, given: Any, value: Any):
    got = read(annotation, given)
    assert got == value
    assert type(got) is type(value)


def test_key_that_is_none_of_its_kind_is_told_without_it():
    with pytest.raises(BadArguments, match="expected int, got str, in a key") as caught:
        read(dict[int, str], {"hunter2": "a"})
    assert "hunter2" not in str(caught.value)


# ── what a type variable is when nobody says it ────────────────────────────────────────────────────────────────────────

D = typing_extensions.TypeVar("D", default=datetime)


class DefaultOfStruct(msgspec.Struct, Generic[D]):
    at: D


@dataclasses.dataclass
class DefaultOfDataclass(Generic[D]):
    at: D


@attrs.define
class DefaultOfAttrs(Generic[D]):
    at: list[D]


class DefaultOfTypedDict(typing_extensions.TypedDict, Generic[D]):
    at: D


class DefaultOfBase(DefaultOfStruct): ...


class GivenToBase(DefaultOfStruct[datetime]): ...


class PassedToBase(DefaultOfStruct[D]): ...


@dataclasses.dataclass
class DefaultInField:
    inner: DefaultOfDataclass


class DefaultOfModel(pydantic.BaseModel, Generic[D]):
    at: D


@pytest.mark.parametrize(
    "annotation",
    [
        *(DefaultOfStruct, DefaultOfDataclass, DefaultOfAttrs, DefaultOfTypedDict, DefaultOfBase, PassedToBase),
        *(DefaultInField, list[DefaultOfStruct], DefaultOfAttrs | None, D, list[D], dict[str, D]),
    ],
    ids=shown,
)
def test_default_of_a_type_variable_that_nobody_would_obey_is_refused(annotation: Any):
    with pytest.raises(ConfigurationError, match=rf"{__file__}:\d+: .*'value': the default of type variable D of"):
        declare(annotation)


@pytest.mark.parametrize(
    "annotation",
    [DefaultOfStruct[datetime], DefaultOfDataclass[datetime], GivenToBase, PassedToBase[datetime], DefaultOfModel],
    ids=shown,
)
def test_type_variable_is_what_it_is_given_or_what_pydantic_takes(annotation: Any):
    assert isinstance(read(annotation, {"at": "2026-01-02T03:04:05Z"}).at, datetime)
    with pytest.raises(BadArguments):
        read(annotation, {"at": "never"})
