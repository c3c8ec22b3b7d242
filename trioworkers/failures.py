"""Describes a failure: its class, its message, the calls that led to it; for the payload, the log and whoever keeps a record."""

from __future__ import annotations

import base64
import traceback
import zlib
from collections.abc import Iterator

import msgspec

MAX_MESSAGE = 10_000


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group and the groups inside it; of a single error, itself."""
    waiting = [error]
    while waiting:  # not by recursion: groups may be nested deeper than Python's stack
        first = waiting.pop()
        if isinstance(first, BaseExceptionGroup):
            waiting.extend(reversed(first.exceptions))
        else:
            yield first


def class_name(error: BaseException) -> str:
    """`ValueError`, `httpx.ReadTimeout`: the name under which people look an error up."""
    kind = type(error)
    module = "trioworkers" if kind.__module__.startswith("trioworkers.") else kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def summary(error: BaseException) -> tuple[str, str]:
    """`(class, message)` for people and for the payload: of a group without a text of its own, its root causes."""
    roots = list(leaves(error))
    if len(roots) == 1:
        return class_name(roots[0]), _message(roots[0])
    if isinstance(error, BaseExceptionGroup) and type(error) not in (ExceptionGroup, BaseExceptionGroup):
        return class_name(error), _message(error)
    return class_name(error), "; ".join(f"{class_name(root)}: {_message(root)}" for root in roots)[:MAX_MESSAGE]


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a handler's exception may have a broken __str__; its job still has an outcome
        text = f"<{class_name(error)} without a readable message>"
    return text[:MAX_MESSAGE].encode(errors="replace").decode()


def trace(error: BaseException) -> list[str]:
    """The calls that led to an error, innermost first, as Ruby writes them.

    A group's begins where its first error was raised: where the nursery ended says little.
    """
    lines: list[str] = []
    inner: BaseException | None = error
    while inner is not None:
        frames = reversed(traceback.extract_tb(inner.__traceback__))
        lines[:0] = [f"{frame.filename}:{frame.lineno}:in `{frame.name}'" for frame in frames]
        inner = inner.exceptions[0] if isinstance(inner, BaseExceptionGroup) else None
    return [line.encode(errors="replace").decode() for line in lines]


def encode_backtrace(error: BaseException, limit: int | None) -> str:
    """The innermost `limit` calls (all for None) as Sidekiq stores them: strict base64 of zlib of a JSON array of lines."""
    return base64.b64encode(zlib.compress(msgspec.json.encode(trace(error)[:limit]))).decode()
