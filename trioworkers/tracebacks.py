"""Tracebacks as the reader of a log wants them: beginning in their own code, without our frames and Trio's, root causes first."""

from __future__ import annotations

import traceback
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from trioworkers.failures import harmless, leaves

LOOKED_AT = 200
"""Of the frames of an error that only is to say where it came from, the innermost."""

MAX_CAUSES = 5
"""Of a group, so many root causes are shown; a nursery of a thousand failures is no reason for a thousand tracebacks."""

_MACHINERY = ("trio", "outcome", "importlib", "httpx", "httpcore", "anyio")
"""What runs a handler, or carries out what it asked of us."""


def is_theirs(filename: str) -> bool:
    """Whether a frame's file is the user's, or a library's that they chose; not ours, and not of what runs them."""
    return not filename.startswith(_hidden_folders()) or filename.startswith(_examples())


def their_frames(error: BaseException) -> traceback.StackSummary:
    """The frames that are theirs."""
    return _cut(traceback.extract_tb(error.__traceback__))


def last_place(error: BaseException) -> str:
    """Where their code was when `error` reached it, on one line: the innermost frame that is no library's. "" if there is none. Can't raise."""
    with suppress(Exception):
        frames = _cut(traceback.extract_tb(error.__traceback__, limit=-LOOKED_AT))
        own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
        if own:
            return f"{own[-1].filename}:{own[-1].lineno}, in {own[-1].name}: {(own[-1].line or '')[:200]}".removesuffix(
                ": "
            )
    return ""


def format_error(error: BaseException) -> str:
    """The traceback of `error`; of a group, those of its root causes, then where the group was raised. No newline at the end.

    "" if there is nothing of the user's to show. Can't raise: of an error that can't be looked at it is that of a stand-in.
    """
    error = harmless(error)
    causes = list(leaves(error))
    parts = [part for cause in causes[:MAX_CAUSES] if (part := _format_one(cause))]
    if len(causes) > MAX_CAUSES:
        parts.append(f"… and {len(causes) - MAX_CAUSES} more")
    if isinstance(error, BaseExceptionGroup) and (frames := their_frames(error)):
        last = frames[-1]
        parts.append(f"(from the nursery or group at {last.filename}:{last.lineno}, in {last.name})")
    return "\n".join(parts)


def _format_one(error: BaseException) -> str:
    shown = traceback.TracebackException.from_exception(error, compact=True)
    return "".join(shown.format()).rstrip("\n") if _prune(shown) else ""


def _prune(shown: traceback.TracebackException) -> bool:
    """Leave the frames that are theirs, and of the errors behind this one those that have such frames. Whether anything is left."""
    shown.stack = _cut(shown.stack)
    if shown.__cause__ is not None and not _prune(shown.__cause__):
        shown.__cause__ = None
    if shown.__context__ is not None and not _prune(shown.__context__):
        shown.__context__ = None
    within = [_prune(each) for each in shown.exceptions or ()]
    left = bool(shown.stack or shown.__cause__ or shown.__context__ or any(within))
    if not shown.stack:
        shown.stack = None  # type: ignore[assignment]  # no header either, only the last line
    return left


def _cut(frames: traceback.StackSummary) -> traceback.StackSummary:
    return traceback.StackSummary.from_list([frame for frame in frames if is_theirs(frame.filename)])


@cache
def _hidden_folders() -> tuple[str, ...]:
    found = [spec.origin for name in _MACHINERY if (spec := find_spec(name)) is not None]
    folders = [Path(__file__).parent, *(Path(origin).parent for origin in found if origin and origin != "frozen")]
    return ("<frozen importlib", "<attrs", *(f"{folder}/" for folder in folders))


@cache
def _examples() -> str:
    return f"{Path(__file__).parent / 'examples'}/"
