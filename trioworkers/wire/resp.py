"""Redis's protocol, as much of it as finding a server takes: commands out, replies in (RESP2). Everything else speaks it through a Redis client.

What comes is not trusted: a server that is none of ours may answer anything, of any size, nested as deep as it likes.
"""

from __future__ import annotations

from typing import TypeAlias

Reply: TypeAlias = "bytes | int | ErrorReply | list[Reply] | None"

MAX_BYTES = 64 << 10
"""What a Sentinel says of one server is 1 KB."""
_MAX_DEPTH = 8
_MAX_DIGITS = 19


class ErrorReply(str):
    """An error, as the server words it."""

    __slots__ = ()


class NoReply(ValueError):
    """What came is no reply of a Redis."""


def encode_command(*words: str | bytes | int) -> bytes:
    """A command, word by word."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def read_replies(data: bytes, count: int) -> list[Reply] | None:
    """The first `count` replies in `data`; None if they are not all there yet. Raises NoReply."""
    replies: list[Reply] = []
    at = 0
    try:
        while len(replies) < count:
            reply, at = _read(data, at, 0)
            replies.append(reply)
    except _Incomplete:
        if len(data) >= MAX_BYTES:
            raise NoReply(f"the reply is longer than {MAX_BYTES >> 10} KB") from None
        return None
    return replies


class _Incomplete(Exception):
    """No error: more has to come."""


def _read(data: bytes, at: int, depth: int) -> tuple[Reply, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        if at < len(data) and data[at : at + 1] not in b"+-:$*":
            raise NoReply(f"the reply begins with {data[at : at + 20]!r}")
        raise _Incomplete
    kind, line, at = data[at : at + 1], data[at + 1 : end], end + 2
    match kind:
        case b"+":
            return line, at
        case b"-":
            return ErrorReply(line.decode(errors="replace")), at
        case b":":
            return _number(line), at
        case b"$":
            return _bulk(data, at, _number(line))
        case b"*" if depth < _MAX_DEPTH:
            length = _number(line)
            items: list[Reply] = []
            while len(items) < length:
                item, at = _read(data, at, depth + 1)
                items.append(item)
            return (items if length >= 0 else None), at
    raise NoReply(f"the reply begins with {kind + line[:20]!r}")


def _bulk(data: bytes, at: int, length: int) -> tuple[Reply, int]:
    if length < 0:
        return None, at
    if length > MAX_BYTES:
        raise NoReply(f"a part of the reply is {length} bytes long")
    if len(data) < at + length + 2:
        raise _Incomplete
    return data[at : at + length], at + length + 2


def _number(line: bytes) -> int:
    if not line.removeprefix(b"-").isdigit() or len(line) > _MAX_DIGITS:
        raise NoReply(f"{line[:20]!r} is no number")
    return int(line)
