"""What `dev` and its worker process say to each other, one line of JSON each: order, need, given; changed, concerned; and what its end means."""

from __future__ import annotations

import attrs

GIVE_UP = 64
"""A worker that ends with this and a status means: no change of the code would help, so `dev` shall end with that status."""


@attrs.frozen
class Order:
    """What the worker is told first. `process_id`: where the App names none; always the same here, so that jobs come back at once.

    `was_there`: the target was there before; if it isn't now, then it is just being moved or written.
    """

    target: str
    was_there: bool
    redis: str | None
    process_id: str
    shutdown_timeout: float
    log_format: str
    log_level: str


@attrs.frozen
class Need:
    """What the worker answers: the Redis that its App or the environment names, if any, and its namespace."""

    redis: str | None
    namespace: str


@attrs.frozen
class Given:
    """The Redis that it gets; or why there is none."""

    url: str = ""
    problem: str = ""


@attrs.frozen
class Changed:
    """Python files that were saved, while it runs."""

    paths: tuple[str, ...]


@attrs.frozen
class Concerned:
    """Which of them concerns it; "" if none does."""

    path: str
