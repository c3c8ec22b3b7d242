"""Serves the dashboard: by itself for `trioworkers web`, or from a thread of its own beside a worker, whose event loop and jobs it then can't hold up or take down."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anycorn
import attrs
import trio

from trioworkers.chosen_redis import ChosenRedis
from trioworkers.errors import ConfigurationError
from trioworkers.web.asgi import guarded
from trioworkers.web.http import ASGI
from trioworkers.web.site import Site

if TYPE_CHECKING:
    from trioworkers.observe.metrics import Metrics

logger = logging.getLogger("trioworkers.web")

END_S = 1.0


@attrs.frozen
class Serving:
    """How a dashboard is served. `bind`: HOST:PORT; port 0: any that is free."""

    bind: str = "127.0.0.1:8090"
    token: str | None = None
    read_token: str | None = None
    read_only: bool = False
    hosts: tuple[str, ...] = ()

    def application(self, redis: ChosenRedis, metrics: Metrics | None = None) -> ASGI:
        """The guarded application. Raises ConfigurationError for an address that others reach, without a login."""
        host = _host_of(self.bind)
        if not (self.token or self.read_token) and not _is_loopback(host):
            raise ConfigurationError(
                f"web: others reach {self.bind}, so it needs a login: --token, or TRIOWORKERS_WEB_TOKEN, with 16 characters or more"
            )
        site = Site(redis, read_only=self.read_only, metrics=metrics)
        return guarded(site, token=self.token, read_token=self.read_token, hosts=self.hosts or None)

    def listen(self) -> socket.socket:
        """Bind it. Raises ConfigurationError."""
        host, port = _host_of(self.bind), self.bind.rpartition(":")[2]
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ConfigurationError(f"web: an address is HOST:PORT, like 127.0.0.1:8090, not {self.bind!r}")
        try:
            family, kind, number, _, address = socket.getaddrinfo(
                host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, number)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(100)
        except OSError as error:
            raise ConfigurationError(f"web: can't listen on {self.bind}: {error.strerror or error}") from error
        return listener


def _host_of(bind: str) -> str:
    return bind.rpartition(":")[0].strip("[]") or "127.0.0.1"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_address(listener: socket.socket) -> str:
    """Where people find it."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104 - only shown
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


async def serve(app: ASGI, listener: socket.socket) -> None:
    """Until cancelled. Closes the listener."""
    config = anycorn.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("trioworkers.web.server")
    config.errorlog.setLevel(logging.WARNING)  # where it listens we say ourselves
    config.include_server_header = False
    config.graceful_timeout = config.shutdown_timeout = END_S
    framework: Any = app
    await anycorn.serve(framework, config, mode="asgi")


@contextmanager
def beside(app: ASGI, listener: socket.socket) -> Iterator[None]:
    """Serve from a thread of its own while the block runs. What goes wrong there is logged, and is no concern of who runs here."""
    scope = trio.CancelScope()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            await serve(app, listener)

    def run() -> None:
        try:
            trio.run(main)
        except Exception:
            logger.exception("the dashboard failed, and is gone; the worker goes on without it")

    thread = threading.Thread(target=run, name="trioworkers-web", daemon=True)
    thread.start()
    try:
        yield
    finally:
        for token in tokens:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel)
        thread.join(END_S)
