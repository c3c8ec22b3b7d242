"""Translates what coredis and the sockets raise, and what scripts report, into our errors."""

from __future__ import annotations

import anyio
from coredis import exceptions

from trioworkers.broker.redis.reasons import mute, unreachable
from trioworkers.errors import BrokerError, CannotServe, Refused, Superseded, Unavailable, Unreachable, WrongLogin
from trioworkers.printable import on_one_line
from trioworkers.redis_url import RedisUrl
from trioworkers.wire.error_replies import SLOT_ELSEWHERE, refusal

FOREIGN = (exceptions.RedisError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError)
"""What coredis raises when Redis or the way to it has a fault."""


_NO_REDIS = (exceptions.ProtocolError, exceptions.InvalidResponse)
_CANNOT_SERVE = (
    exceptions.NoScriptError,
    exceptions.UnblockedError,
    exceptions.ReadOnlyError,
    exceptions.RedisClusterError,
    exceptions.BusyLoadingError,
)
MAX_CAUSES = 8
MAX_HOLDER = 100


def translated(error: Exception) -> BrokerError | None:
    """Our error for what a call raised; None if it has nothing to do with Redis."""
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, FOREIGN):
        return translate(error)
    if isinstance(error, ExceptionGroup):
        known, rest = error.split(FOREIGN)
        return translate(first_leaf(known)) if known is not None and rest is None else None
    return None


def why_not_open(error: BaseException, url: RedisUrl) -> BrokerError:
    """Our error for what kept a connection to `url` from being opened: coredis says only that it could not, and keeps the rest as causes."""
    if isinstance(error, BrokerError):
        return type(error)(str(error))
    if isinstance(error, _NO_REDIS):
        return Unreachable("what answers there doesn't speak Redis's protocol", "is the port right?")
    if type(error) is not exceptions.ConnectionError and not isinstance(error, TimeoutError):
        return translate(error)  # it answered: who we are, that it is loading
    root: BaseException = error
    for _ in range(MAX_CAUSES):
        if root.__cause__ is None or isinstance(root, Unreachable):
            break
        root = root.__cause__
    if isinstance(root, exceptions.ConnectionError):
        # Our patience ended, and the socket had opened: else there were a cause.
        if type(root.__context__).__name__ == "Cancelled":
            return mute()
        return Unreachable(str(root), "its own log may say more")
    return unreachable(root, url)


def translate(error: BaseException) -> BrokerError:
    """Our error for one of coredis or the operating system."""
    text = str(error) or type(error).__name__
    if "SUPERSEDED" in text:
        holder = on_one_line(text.partition("SUPERSEDED")[2].strip()[:MAX_HOLDER]) or "nobody"
        return Superseded(
            f"another worker has this one's process id or took it for dead: its lease is of {holder}. "
            "Its jobs are safe, and run there. Does another machine run with the same process id?"
        )
    if "HELLO must be called with the client already authenticated" in text:
        return WrongLogin("a password is needed")
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError | exceptions.WrongTypeError):
        return (WrongLogin if isinstance(error, exceptions.AuthenticationError) else Refused)(text)
    if isinstance(error, _CANNOT_SERVE):
        return CannotServe(SLOT_ELSEWHERE if isinstance(error, exceptions.AskError) else text)  # or a MovedError
    # The builtin TimeoutError is an OSError; anyio's errors come from a socket that is just being closed.
    if isinstance(error, exceptions.ConnectionError | OSError | anyio.ClosedResourceError | anyio.BrokenResourceError):
        return Unavailable(text)
    return refusal(text)


def is_answer(error: BaseException | None) -> bool:
    """Whether Redis said so itself: then the way to it is open, and carried both the question and that."""
    is_lost = isinstance(error, exceptions.ConnectionError) and not isinstance(error, exceptions.BusyLoadingError)
    return isinstance(error, exceptions.RedisError) and not is_lost


def first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that is no group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
