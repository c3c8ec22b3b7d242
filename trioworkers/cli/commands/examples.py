"""How a command carries its examples: `@examples(…)` above it. Its help, docs/cli.md and a test read them from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., None])
COLUMNS = 80
"""A terminal has so many; it breaks longer lines anywhere."""


def examples(*lines: tuple[str, str]) -> Callable[[F], F]:
    """Pairs of a command line, as one types it, and what it does in a few words."""

    def attach(function: F) -> F:
        function.examples = lines  # type: ignore[attr-defined]
        return function

    return attach


def examples_of(function: Callable[..., Any]) -> Sequence[tuple[str, str]]:
    """What `@examples` was given."""
    found: Sequence[tuple[str, str]] = getattr(function, "examples", ())
    return found


def epilog(function: Callable[..., Any]) -> str:
    """The examples as they stand at the end of a command's help."""
    lines = examples_of(function)
    if not lines:
        return ""
    width = max(len(line) for line, _ in lines)
    if width + max(len(what) for _, what in lines) + 9 > COLUMNS:  # the words go above the line
        shown = [text for line, what in lines for text in (f"  # {what}", f"  {line}")]
    else:
        shown = [f"  {line.ljust(width)}   # {what}" for line, what in lines]
    return "\n".join(["\b", "Examples:", *shown])
