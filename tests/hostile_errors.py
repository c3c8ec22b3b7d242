"""Exceptions as no sane program raises them: whatever looks at one is in for a surprise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from trioworkers import RetryAfter
from trioworkers.errors import RateLimited


def _boom(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("looked at")


class _Text(str):  # noqa: SLOT000 - as strangers write it
    """A text that doesn't want to be cut, joined or written."""

    __getitem__ = __format__ = __len__ = encode = replace = startswith = split = __add__ = __radd__ = __eq__ = (
        __ne__
    ) = __iter__ = __contains__ = _boom  # type: ignore[assignment]
    __hash__ = str.__hash__


class _Meta(type):
    """A class of this kind can't be asked what it is called."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__", "__mro__"):
            raise RuntimeError("looked at")
        return super().__getattribute__(name)


class MetaClass(Exception, metaclass=_Meta):
    pass


def _with(name: str, value: Any, *bases: type) -> BaseException:
    kind: Any = type("Hostile", bases or (Exception,), {name: value})
    return kind("no") if not bases else kind("no", [ValueError("inner")])  # type: ignore[no-any-return]


def _property(name: str, answer: Callable[..., Any] = _boom, *bases: type) -> Callable[[], BaseException]:
    return lambda: _with(name, property(answer), *bases)


def _method(name: str, answer: Callable[..., Any]) -> Callable[[], BaseException]:
    return lambda: _with(name, answer)


def _raises(kind: type[BaseException]) -> Callable[..., NoReturn]:
    def answer(*_: Any) -> NoReturn:
        raise kind

    return answer


def _endless(_: object) -> BaseException:
    return _with("__cause__", property(_endless))


def _notes(value: Any) -> Callable[[], BaseException]:
    def make() -> BaseException:
        error = Exception("no")
        error.__notes__ = value
        return error

    return make


def _chain(length: int) -> BaseException:
    error: BaseException = ValueError("first")
    for number in range(length):
        later = ValueError(str(number))
        later.__cause__ = error
        error = later
    return error


def _nested(depth: int) -> BaseException:
    error: Exception = ValueError("inmost")
    for _ in range(depth):
        error = ExceptionGroup("group", [error])
    return error


def _doubled(times: int, *, chained: bool = False) -> BaseException:
    """Small, but whoever visits each member has no end."""
    error: Exception = ValueError("inmost")
    for _ in range(times):
        outer = ExceptionGroup("group", [error, error])
        if chained:
            outer.__cause__ = outer.__context__ = error
        error = outer
    return error


def _turns(kind: type[BaseException], name: str, looks: int, end: type[BaseException]) -> Callable[[], BaseException]:
    """An attribute of one of our own errors that can be looked at so many times, and then raises."""

    def make() -> BaseException:
        left = iter([5.0] * looks)

        def read(_: object) -> float:
            for value in left:
                return value
            raise end

        turning: Any = type("Hostile", (kind,), {name: property(read, lambda *_: None)})
        return turning(5)  # type: ignore[no-any-return]

    return make


def _waits(value: Any) -> Callable[[], BaseException]:
    def make() -> BaseException:
        error = RateLimited(5)
        error.retry_after_s = value
        return error

    return make


def _no_exception(answer: Callable[..., Any]) -> Callable[[], BaseException]:
    return lambda: type("Hostile", (BaseException,), {"__class__": property(answer)})("no")


def _from_file(name: object) -> Callable[[], BaseException]:
    """Raised by code that says that it came from there."""

    def make() -> BaseException:
        names: dict[str, Any] = {}
        exec(compile("def fail():\n    raise ValueError('no')\n", "x", "exec"), names)
        names["fail"].__code__ = names["fail"].__code__.replace(co_filename=name, co_name=name)
        try:
            names["fail"]()
        except ValueError as error:
            return error
        raise AssertionError

    return make


def _deep_call(left: int = 0) -> BaseException:
    try:
        return _deep_call(left + 1)
    except RecursionError as error:
        return error


def _syntax() -> BaseException:
    error = SyntaxError("no")
    error.filename, error.lineno, error.text, error.offset = 3, "x", b"\xff", object()  # type: ignore[assignment]
    return error


class _Loop(Exception):
    """Its own cause."""

    def __init__(self) -> None:
        super().__init__("loop")
        other = Exception("other")
        other.__context__ = self
        self.__context__ = other


HOSTILE: dict[str, Callable[[], BaseException]] = {
    "module is None": lambda: _with("__module__", None),
    "module is a number": lambda: _with("__module__", 5),
    "module is a text of its own kind": lambda: _with("__module__", _Text("m")),
    "module is long": lambda: _with("__module__", "m" * 1_000_000),
    "module is no unicode": lambda: _with("__module__", "\udc80"),
    "metaclass": lambda: MetaClass("no"),
    "str raises": _method("__str__", _boom),
    "str raises SystemExit": _method("__str__", _raises(SystemExit)),
    "str raises KeyboardInterrupt": _method("__str__", _raises(KeyboardInterrupt)),
    "str recurses": _method("__str__", str),
    "str is no text": _method("__str__", lambda _: 5),
    "str is a text of its own kind": _method("__str__", lambda _: _Text("no")),
    "str is huge": _method("__str__", lambda _: "x" * 50_000_000),
    "str is no unicode": _method("__str__", lambda _: "\udc80\ud800"),
    "repr raises": _method("__repr__", _boom),
    "class raises": _property("__class__"),
    "class raises SystemExit": _property("__class__", _raises(SystemExit)),
    "class of no Exception raises": _no_exception(_raises(SystemExit)),
    "class of no Exception lies": _no_exception(lambda _: KeyboardInterrupt),
    "class lies": _property("__class__", lambda _: BaseExceptionGroup),
    "cause raises": _property("__cause__"),
    "cause is no error": _property("__cause__", lambda _: 5),
    "cause has no end": lambda: _endless(None),
    "context raises": _property("__context__"),
    "suppress_context raises": _property("__suppress_context__"),
    "traceback raises": _property("__traceback__"),
    "notes raise": _property("__notes__"),
    "notes are no list": _notes(5),
    "notes are no texts": _notes([object(), _Text("x")]),
    "notes are many": _notes(["x" * 1000] * 100_000),
    "notes raise on their own": _notes(_Text("x")),
    "getattribute raises": _method("__getattribute__", _boom),
    "getattr raises": _method("__getattr__", _boom),
    "hash and eq raise": lambda: type("Hostile", (Exception,), {"__hash__": _boom, "__eq__": _boom})("no"),
    "exceptions raises": _property("exceptions", _boom, ExceptionGroup),
    "exceptions has no end": _property("exceptions", lambda self: (self, self), ExceptionGroup),
    "split raises": lambda: _with("split", _boom, BaseExceptionGroup),
    "derive raises": lambda: _with("derive", _boom, ExceptionGroup),
    "split and derive exit": lambda: type(
        "Hostile", (BaseExceptionGroup,), dict.fromkeys(("split", "derive", "subgroup"), _raises(SystemExit))
    )("no", [ValueError("inner"), KeyboardInterrupt()]),
    "group of twice the one before": lambda: _doubled(60),
    "follows from twice the one before": lambda: _doubled(45, chained=True),
    "group nested deep": lambda: _nested(20_000),
    "group of many": lambda: ExceptionGroup("many", [ValueError("x" * 100)] * 200_000),
    "follows from many": lambda: _chain(100_000),
    "follows from itself": _Loop,
    "deep traceback": _deep_call,
    "odd SyntaxError": _syntax,
    "ImportError with a property": lambda: type("Hostile", (ImportError,), {"name": property(_boom)})("no"),
    "AttributeError of an odd object": lambda: AttributeError("no", name="x", obj=MetaClass),
    "args are odd": lambda: Exception(_Text("a"), object(), MetaClass),
    "file has no end": _from_file("/dev/zero"),
    "file is a text of its own kind": _from_file(_Text("x.py")),
    "long line": lambda: eval(compile("(lambda: ValueError('no'))()", "f" * 1_000_000, "eval")),
}

HOSTILE_WAITS: dict[str, Callable[[], BaseException]] = {
    "wait is negative": _waits(-5e300),
    "wait has no end": _waits(float("inf")),
    "wait is a long integer": _waits(10**400),
    "wait is no number": _waits(object()),
    **{
        f"{name} can be read {looks} times, then {end.__name__}": _turns(kind, name, looks, end)
        for kind, name in ((RateLimited, "retry_after_s"), (RetryAfter, "delay_s"))
        for looks in range(4)
        for end in (ZeroDivisionError, SystemExit)
    },
}
"""Of those that steer their jobs."""

assert sys.version_info >= (3, 11)
