"""Tracebacks as the reader of a log wants them: beginning in their own code, without our frames and Trio's, root causes first."""

from __future__ import annotations

import traceback
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from trioworkers.failures import harmless, leaves, raised_at
from trioworkers.stacks import calls_to

MAX_CAUSES = 5
"""Of a group, so many root causes are shown; a nursery of a thousand failures is no reason for a thousand tracebacks."""

_MACHINERY = ("trio", "outcome", "importlib", "httpx", "httpcore", "anyio")
"""What runs a handler, or carries out what it asked of us."""


def is_theirs(filename: str) -> bool:
    """Whether a frame's file is the user's, or a library's that they chose; not ours, and not of what runs them."""
    return not filename.startswith(_hidden_folders()) or filename.startswith(_examples())


def their_frames(error: BaseException) -> traceback.StackSummary:
    """The frames that are theirs."""
    return calls_to(raised_at(error), is_theirs)


def last_place(error: BaseException) -> str:
    """Where their code was when `error` reached it, on one line: the innermost frame that is no library's. "" if there is none. Can't raise."""
    with suppress(Exception):
        frames = their_frames(error)
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
    # Without the calls: those are added by us, as Python reads whatever file they name.
    shown = traceback.TracebackException.from_exception(error, limit=0, lookup_lines=False, compact=True)
    return "".join(shown.format()).rstrip("\n") if _fill(shown, error) else ""


def _fill(shown: traceback.TracebackException, error: BaseException | None) -> bool:
    """Add the calls that are theirs, and leave of the errors behind this one those that have such calls. Whether there is anything to show."""
    if error is None:
        return False
    shown.stack = their_frames(error)
    if shown.__cause__ is not None and not _fill(shown.__cause__, error.__cause__):
        shown.__cause__ = None
    if shown.__context__ is not None and not _fill(shown.__context__, error.__context__):
        shown.__context__ = None
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    within = [_fill(each, one) for each, one in zip(shown.exceptions or (), inner, strict=False)]
    left = bool(shown.stack or shown.__cause__ or shown.__context__ or any(within))
    if not shown.stack:
        shown.stack = None  # type: ignore[assignment]  # no header either, only the last line
    return left


@cache
def _hidden_folders() -> tuple[str, ...]:
    found = [spec.origin for name in _MACHINERY if (spec := find_spec(name)) is not None]
    folders = [Path(__file__).parent, *(Path(origin).parent for origin in found if origin and origin != "frozen")]
    return ("<frozen importlib", "<attrs", *(f"{folder}/" for folder in folders))


@cache
def _examples() -> str:
    return f"{Path(__file__).parent / 'examples'}/"
