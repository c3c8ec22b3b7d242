"""What makes no sense on a command line, whatever Redis holds: WrongUsage, in the option's own name, before anything is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trioworkers.errors import BadJob, ConfigurationError, WrongUsage
from trioworkers.settings import settings

if TYPE_CHECKING:
    from trioworkers.app import App


@contextmanager
def as_usage() -> Iterator[None]:
    """What is wrong within the block, the command line said so."""
    try:
        yield
    except (ConfigurationError, BadJob) as error:
        raise WrongUsage(str(error)) from None


def check_options(**options: Any) -> None:
    """Raise WrongUsage if no worker could have one of these settings. None: not given."""
    for name, value in options.items():
        try:
            settings({name: value}, {})
        except ConfigurationError as error:
            option = f"--{name.replace('_', '-')}"
            raise WrongUsage(str(error).replace(name, option, 1)) from None


def check_url(url: str | None, source: str) -> None:
    """Raise WrongUsage if it is no URL for a Redis. `source`: what said so."""
    if url is None:
        return
    try:
        settings({"redis_url": url}, {})
    except ConfigurationError as error:
        raise WrongUsage(f"{source}: {str(error).removeprefix('redis_url: ')}") from None


def check_environment(app: App) -> None:
    """Raise WrongUsage if the environment says what can't be: what the App and the options say was checked where they say it."""
    with as_usage():
        chosen = app.settings
    if chosen.redis_url == os.environ.get("REDIS_URL"):
        check_url(chosen.redis_url, "REDIS_URL")
