"""What `dev` and its worker process say to each other, one line of JSON each: order, need, given."""

from __future__ import annotations

import attrs


@attrs.frozen
class Order:
    """What the worker is told first. `process_id`: where the App names none; always the same here, so that jobs come back at once."""

    target: str
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
