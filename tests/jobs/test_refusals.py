"""What is told of an argument that doesn't fit: field and rule, and never what came."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
from typing import Annotated, Any, Literal, TypedDict

import attrs
import msgspec
import pydantic
import pydantic_core
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trioworkers import App, BadArguments, Job, testing

SECRET = "hunter2"
HUGE = 10**6


@attrs.define
class Validated:
    age: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    name: str = attrs.field(default="", validator=attrs.validators.matches_re("[a-z]*"))
    kind: Any = attrs.field(default="", validator=attrs.validators.instance_of(str))
    one_of: str = attrs.field(default="a", validator=attrs.validators.in_("abc"))
    own: str = attrs.field(default="")

    @own.validator
    def _own(self, _: Any, value: str) -> None:
        if value:
            raise ValueError(f"no {value}", value)


@dataclasses.dataclass
class Posted:
    how: str

    def __post_init__(self) -> None:
        raise {
            "value": ValueError(f"{SECRET} - at `$.{SECRET}`"),
            "own": msgspec.ValidationError(f"Expected `{SECRET}`"),
            "key": KeyError(SECRET),
            "assert": AssertionError(SECRET),
            "group": ExceptionGroup(SECRET, [ValueError(SECRET)]),
        }[self.how]


@dataclasses.dataclass
class Holder:
    posted: list[Posted]


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    a: int = 0


class Cat(msgspec.Struct, tag=True):
    a: int = 0


class Dog(msgspec.Struct, tag=True):
    b: int = 0


class Colour(enum.Enum):
    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise ValueError(f"no {value}")


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    password: str = pydantic.Field("", max_length=3)
    email: pydantic.EmailStr | None = None
    by_name: dict[pydantic.EmailStr, int] = {}
    choice: Literal["a", "b"] = "a"

    @pydantic.field_validator("choice", mode="before")
    @classmethod
    def _check(cls, value: Any) -> Any:
        if value == "custom":
            raise pydantic_core.PydanticCustomError("own_kind", "no {value}", {"value": SECRET})
        if value == "assert":
            raise AssertionError(SECRET)
        return value


class Tagged(pydantic.BaseModel):
    pet: Annotated[_Cat | _Dog, pydantic.Field(discriminator="kind")]


class _Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class _Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Typed(TypedDict):
    a: int


def declare(annotation: Any) -> Any:
    async def handler(value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    return App().handler("q", "A")(handler)


def told(annotation: Any, value: Any) -> str:
    with pytest.raises(BadArguments) as caught:
        declare(annotation).bind(Job("q", "A", [value]))
    error = caught.value
    assert error.__suppress_context__
    message = str(error)
    assert len(message) < 1500
    assert "\n" not in message
    assert message.startswith("A: argument 1 (value): ")
    return message.removeprefix("A: argument 1 (value): ")


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (int, SECRET, "expected int, got str"),
        (list[int], [1, SECRET], "expected int, got str, in field [1]"),
        (dict[int, int], {SECRET: 1}, "expected int, got str, in a key"),
        (dict[str, int], {SECRET: "x"}, "expected int, got str, in field [...]"),
        (Literal["a"], SECRET, "none of the values that are allowed"),
        (Literal["a"], f"x - at `$.{SECRET}`", "none of the values that are allowed"),
        (Literal[1], 72, "none of the values that are allowed"),
        (list[Literal["a"]], [SECRET], "none of the values that are allowed, in field [0]"),
        (Colour, SECRET, "none of the values that are allowed"),
        (Strict, {SECRET: 1}, "a field that isn't known"),
        (Strict, {f"x - at `$.{SECRET}": 1}, "a field that isn't known"),
        (Cat | Dog, {"type": SECRET}, "none of the values that are allowed, in field type"),
        (Annotated[str, msgspec.Meta(pattern="^a")], SECRET, "expected str matching regex '^a'"),
        (Annotated[str, msgspec.Meta(max_length=2)], SECRET, "expected str of length <= 2"),
        (Annotated[int, msgspec.Meta(ge=1)], -5, "expected int >= 1"),
        (Typed, {"b": SECRET}, "object missing required field a"),
        (Validated, {"age": -5}, "refused by the validator of field age (ValueError)"),
        (Validated, {"name": SECRET}, "refused by the validator of field name (ValueError)"),
        (Validated, {"kind": 72}, "refused by the validator of field kind (TypeError)"),
        (Validated, {"one_of": SECRET}, "refused by the validator of field one_of (ValueError)"),
        (Validated, {"own": SECRET}, "refused by the validator of field own (ValueError)"),
        (list[Validated], [{}, {"own": SECRET}], "refused by the validator of field own (ValueError), in field [1]"),
        (Posted, {"how": "value"}, "refused by its class (ValueError)"),
        (Holder, {"posted": [{"how": "value"}]}, "refused by its class (ValueError), in field posted[0]"),
        (Posted, {"how": "own"}, "refused by its class (ValidationError)"),
        (Posted, {"how": "key"}, "refused by its class (KeyError)"),
        (Posted, {"how": "assert"}, "refused by its class (AssertionError)"),
        (Posted, {"how": "group"}, "refused by its class (ExceptionGroup)"),
        (Model, {"password": SECRET}, "string should have at most 3 characters, in field password"),
        (Model, {"email": SECRET}, "value error, in field email"),
        (Model, {"by_name": {SECRET: 1}}, "value error, in field by_name.….…"),
        (Model, {"by_name": {"a@example.org": SECRET}}, "parse string as an integer, in field by_name.…"),
        (Model, {"choice": SECRET}, "input should be 'a' or 'b', in field choice"),
        (Model, {"choice": "custom"}, "own kind, in field choice"),
        (Model, {"choice": "assert"}, "assertion error, in field choice"),
        (Model, {SECRET: 1}, "extra inputs are not permitted, in field …"),
        (Model, {"password": 7, "email": SECRET, "choice": 3, "by_name": 4}, "; 1 more"),
        (Model, SECRET, "input should be"),
        (Tagged, {"pet": {"kind": SECRET}}, "union tag invalid, in field pet"),
        (list[Model], [{"password": SECRET}], "string should have at most 3 characters, in field 0.password"),
        (pydantic.EmailStr, SECRET, "value error"),
        (
            Annotated[str, pydantic.AfterValidator(lambda text: [][len(text)])],
            SECRET,
            "refused by its class (IndexError)",
        ),
    ],
    ids=lambda value: f"{value!r:.40}".split(" at 0x")[0],
)
def test_field_and_rule_are_told_and_never_the_value(annotation: Any, value: Any, words: str):
    message = told(annotation, value)
    assert words in message
    assert SECRET not in message
    assert "72" not in message
    with pytest.raises(TypeError, match="handler handler") as caught:
        declare(annotation).job(value)
    assert SECRET not in str(caught.value)


def refused(handler: Any, value: Any) -> str:
    """What is said of it; "" if it fits."""
    try:
        handler.bind(Job("q", "A", [value]))
    except BadArguments as error:
        return str(error)
    return ""


def shapes(text: str) -> list[object]:
    return [text, [text], {text: text}, {"password": text}, {"own": text}, {"by_name": {text: text}}]


@example("string")
@given(st.text(min_size=6))
def test_whatever_text_comes_it_is_not_told(text: str):
    """Unless the words that we say of any other text hold it, too."""
    for annotation in (Literal["ok"], Colour, Model, pydantic.EmailStr, dict[int, int], Validated):
        for value, other in zip(shapes(text), shapes(SECRET), strict=True):
            message = refused(declared(annotation), value)
            assert text not in message or text in refused(declared(annotation), other)


_DECLARED: dict[str, Any] = {}


def declared(annotation: Any) -> Any:
    return _DECLARED.setdefault(str(annotation), declare(annotation))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Literal["a"], "a - at `" * (HUGE // 8)),
        (Literal["a"], "x" * HUGE),
        (Strict, {"`" * HUGE: 1}),
        (dict[int, int], {"9" * HUGE: 1}),
        (dict[float, int], {"9" * HUGE: 1}),
        (Model, {"x" * HUGE: 1}),
        (Model, {f"x{n}": 1 for n in range(10_000)}),
        (list[Literal["a"]], ["b" * HUGE] * 3),
        (list[pydantic.PositiveInt], [-1] * 100_000),
        (Validated, {"own": "x" * HUGE}),
        (pydantic.EmailStr, "a@" + "b" * HUGE),
        (list[int], json.loads("[" * 400 + "]" * 400)),
        (pydantic.PositiveInt, 10**4000),
        (Annotated[int, msgspec.Meta(ge=1)], 10**4000),
        (Annotated[int, msgspec.Meta(ge=1)], -(10**4000)),
    ],
    ids=lambda value: f"{value!s:.30}" if not isinstance(value, int) else "number",
)
def test_however_large_it_is_little_is_told(annotation: Any, value: Any):
    assert len(refused(declare(annotation), value)) < 1500


def test_of_very_many_problems_only_the_number_is_told():
    assert told(list[Model], [7] * 100_000) == "100,000 problems of its fields or items"


async def test_neither_log_nor_payload_tells_it(autojump_clock: object, caplog: pytest.LogCaptureFixture):
    app = App()

    @app.handler("q")
    async def read(a: Model | None = None, b: Validated | None = None, c: Literal["a"] = "a") -> None: ...

    caplog.set_level(logging.DEBUG)
    async with testing.run(app) as test:
        jobs = ([{"password": SECRET}], [None, {"own": SECRET}], [None, None, SECRET])
        await test.enqueue(*(Job("q", "read", args) for args in jobs))
        await test.drain()
        assert len(test.dead) == 3
        for payload in test.dead_payloads:
            assert SECRET not in json.loads(payload)["error_message"]
    assert SECRET not in caplog.text
    assert "refused by the validator of field own" in caplog.text
