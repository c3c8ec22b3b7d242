"""The options that a job carries: what each may be, whether a job says it or a handler for its jobs. (For how long one is wanted: `lifetime.py`.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trioworkers.seconds import MAX_SECONDS
from trioworkers.wire.keys import check_sent_to

MAX_RETRIES = 1_000_000
MAX_LINES = 100_000
MAX_TAGS = 1_000


def _is_count(value: object, at_most: int) -> bool:
    return isinstance(value, int) and 0 <= value <= at_most


def _is_retry_for(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_SECONDS


def _are_tags(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) <= MAX_TAGS and all(isinstance(tag, str) for tag in value)


_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "retry": (lambda value: _is_count(value, MAX_RETRIES), f"True, False or a number from 0 to {MAX_RETRIES:,}"),
    "retry_for": (_is_retry_for, f"a number of seconds above 0 and up to {MAX_SECONDS:,}"),
    "retry_queue": (lambda value: not check_sent_to(value), "a queue's name"),
    "backtrace": (lambda value: _is_count(value, MAX_LINES), f"True, False or a number of lines up to {MAX_LINES:,}"),
    "dead": (lambda value: isinstance(value, bool), "True or False"),
    "tags": (_are_tags, "a list of texts"),
}


def check_option(name: str, value: object) -> None:
    """Raise ValueError that says what option `name` may be, if `value` is none of it."""
    fits, words = _RULES[name]
    if not fits(value):
        raise ValueError(f"{name} is {words}, not {value!r:.80}")
