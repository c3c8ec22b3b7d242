"""Steps: what a job does once, whatever becomes of the attempt: a later one gets what was recorded."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from trioworkers.errors import BadResult, RecordsLost
from trioworkers.http.idempotency import idempotency_key, under_key
from trioworkers.jobs.annotations import Unbindable, hints
from trioworkers.jobs.conversion import Conversion
from trioworkers.jobs.progress import Progress
from trioworkers.wire.record import decode_step, encode_step

_conversions: WeakKeyDictionary[Callable[..., Any], Any] = WeakKeyDictionary()
LookUp = Callable[[str, str], Awaitable[tuple[bytes | None, int]]]
"""(jid, name of a step) → what is recorded beside the payload of that job under that name, and how many results are there."""


async def take_step(
    jid: str,
    progress: Progress,
    look_up: LookUp,
    name: str,
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
) -> Any:
    """See `Context.step`."""
    record = progress.open_record()
    record.use(name)
    result = record.steps.get(name)
    if result is None and record.beside:
        result = await _beside(jid, record.beside - len(record.unsaved), look_up, name)
    if result is not None:
        return _returned(name, function, result, earlier=True)
    with under_key(idempotency_key(jid, name)):
        value = function(*args)
        if inspect.isawaitable(value):
            value = await value
    result = encode_step(name, value)
    record.add(name, result)
    await progress.recorded(record, f"step {name!r}")
    return _returned(name, function, result, earlier=False)


async def _beside(jid: str, expected: int, look_up: LookUp, name: str) -> msgspec.Raw | None:
    result, count = await look_up(jid, name)
    if result is not None:
        return msgspec.Raw(result)
    if count < expected:  # this step may be among those: to take it again could be to charge twice
        raise RecordsLost(
            f"step {name!r}: of {expected} results that were recorded beside the payload only {count} are there; "
            "not run, because it may be done already"
        )
    return None


def _returned(name: str, function: Callable[..., Any], result: msgspec.Raw, *, earlier: bool) -> Any:
    """The recorded result as what the function says that it returns: the same in the attempt that took the step and in all others."""
    try:
        value = decode_step(result)
        conversion = _conversion(function)
        return value if conversion is None else conversion.read(value)
    except (ValueError, RecursionError) as error:
        since = (
            "; it was recorded by an earlier attempt: give the step another name if it shall run again"
            if earlier
            else ""
        )
        raise BadResult(f"what step {name!r} returned is not what its function says: {error}{since}") from None


def _conversion(function: Callable[..., Any]) -> Conversion | None:
    """How a result becomes what its function says that it returns; None where it doesn't say, or JSON has nothing that could."""
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    try:
        known: Conversion | None = _conversions[function]
    except KeyError:
        known = _conversions[function] = _found(function)
    except TypeError:  # an object that is called, and can't be a key
        return _found(function)
    return known


def _found(function: Callable[..., Any]) -> Conversion | None:
    try:
        said = hints(function).get("return", Any)
        return None if said in (Any, object) else Conversion(said)
    except Unbindable:
        return None
