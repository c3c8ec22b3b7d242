"""Why a connection failed, in the system's own words: "all attempts failed" helps nobody."""

from __future__ import annotations

import os
import socket
import ssl

MAX_LINKS = 20
MAX_REASONS = 3
MAX_CHARACTERS = 300
_CLIENTS = ("httpx", "httpcore", "httpx2")


def reason(error: BaseException) -> str:
    """What lies at the bottom of an error of the network; "" if nothing of the kind does."""
    found = dict.fromkeys(text for root in _roots(error) if (text := _text(root)))
    return "; ".join(list(found)[:MAX_REASONS])[:MAX_CHARACTERS]


def with_reason(error: BaseException) -> str:
    """An error's message, with the reason that it doesn't tell itself."""
    message, why = str(error), reason(error)
    if not why or why in message:
        return message
    return f"{message}: {why}" if message else why


def _roots(error: BaseException) -> list[BaseException]:
    """The errors at the ends of an error's groups and causes; of such chains no more than some."""
    roots: list[BaseException] = []
    waiting = [error]
    for _ in range(MAX_LINKS):
        if not waiting:
            break
        first = waiting.pop(0)
        if isinstance(first, BaseExceptionGroup):
            waiting[:0] = first.exceptions[:MAX_REASONS]
        elif _text(first):
            roots.append(first)
        elif (cause := _cause(first)) is not None:
            waiting.insert(0, cause)
    return roots


def _cause(error: BaseException) -> BaseException | None:
    """What an error was raised from; for those of HTTP clients also if they hide it, which httpcore does."""
    hides = error.__suppress_context__ and type(error).__module__.partition(".")[0] not in _CLIENTS
    return error.__cause__ or (None if hides else error.__context__)


def _text(error: BaseException) -> str:
    text = ""
    match error:
        case ssl.SSLCertVerificationError():
            text = f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLEOFError():
            text = "it hung up in the middle of TLS"
        case ssl.SSLError():
            text = f"TLS failed: {str(getattr(error, 'reason', None) or error).replace('_', ' ').lower()}"
        case socket.gaierror(errno=socket.EAI_NONAME):
            text = "its name is unknown"
        case socket.gaierror():
            text = f"its name can't be looked up: {error.strerror or error}"
        case OSError(errno=int(number)):
            text = os.strerror(number)
        case TimeoutError():
            text = str(error)
    return text
