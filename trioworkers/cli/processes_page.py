"""The dashboard of `run --processes --web`: its port, the process that serves it, the directory in which all others tell what they count. Imports no Trio and no App."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
import msgspec

from trioworkers.errors import ConfigurationError, WrongUsage
from trioworkers.process.life import Life
from trioworkers.process.page_address import check_installed, check_login, listen, shown_address

logger = logging.getLogger("trioworkers")


MOST_DIRECTORY_BYTES = 80
"""A socket's whole path has 103 at most on some systems."""


@attrs.frozen
class Web:
    """What the command line says of it."""

    bind: str
    token: str | None
    read_token: str | None


class Page:
    """To be used as a context manager, around the life of all processes. Raises WrongUsage if there can be none."""

    def __init__(
        self, web: Web, target: str, redis: str | None, options: Mapping[str, Any], log: tuple[str, str]
    ) -> None:
        try:
            check_installed()
            check_login(web.bind, web.token, web.read_token)
            self._listener = listen(web.bind)
        except ConfigurationError as error:
            raise WrongUsage(str(error)) from None
        self.metrics = _directory() if find_spec("prometheus_client") is not None else None
        """The directory for them, which only we may read; None without the extra, or if there can be none."""
        self._started = 0
        self._target = target
        self._order: dict[str, Any] = {
            "target": target,
            "redis": redis,
            "options": dict(options),
            "bind": web.bind,
            "token": web.token,
            "read_token": web.read_token,
            "listener": self._listener.fileno(),
            "metrics": self.metrics,
            "log_format": log[0],
            "log_level": log[1],
        }
        logger.info("dashboard at %s", shown_address(self._listener))

    def start(self, environment: Mapping[str, str], log_turn: int | None) -> Life:
        """Start the process that serves it. `log_turn`: see `process/log_turn.py`."""
        order = msgspec.json.encode({**self._order, "is_first": self._started == 0, "log_turn": log_turn})
        self._started += 1
        command = [sys.executable, "-m", "trioworkers.cli.page_child", self._target]
        shared = [] if log_turn is None else [log_turn]
        return Life("web", command, order, environment, [self._listener.fileno(), *shared])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        if self.metrics is not None:
            shutil.rmtree(self.metrics, ignore_errors=True)


def _directory() -> str | None:
    """One for sockets. Where none can be made workers run all the same: what they count is no reason not to."""
    try:
        found = tempfile.mkdtemp(prefix="trioworkers-")
        if len(os.fsencode(found)) > MOST_DIRECTORY_BYTES:
            Path(found).rmdir()
            found = tempfile.mkdtemp(prefix="trioworkers-", dir="/tmp")
    except OSError as error:
        logger.warning(
            "the dashboard has no metrics of the workers: there is no directory for their sockets: %s", error
        )
        return None
    return found
