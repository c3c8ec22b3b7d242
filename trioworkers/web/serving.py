"""Serves the dashboard: by itself for `trioworkers web`, or from a thread of its own beside a worker, whose event loop and jobs it then can't hold up or take down."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import anycorn
import attrs
import trio
from anycorn.tcp_server import tcp_server_handler
from anycorn.utils import wrap_app
from anycorn.worker_context import WorkerContext

from trioworkers.chosen_redis import ChosenRedis
from trioworkers.process.page_address import check_login, listen
from trioworkers.web.asgi import application_of, guarded
from trioworkers.web.connections import accept_all
from trioworkers.web.http import ASGI
from trioworkers.web.site import OwnMetrics

logger = logging.getLogger("trioworkers.web")

END_S = 1.0
IDLE_S = 5.0
"""A connection that asks for nothing is closed after so long, and one that its client has closed, too. Live pages ask more often."""
REQUESTS_OF_ONE = 100
"""So many requests one connection may send: who sends them all at once and is gone has the rest of them answered by nobody."""


@attrs.frozen
class Serving:
    """How a dashboard is served. `bind`: HOST:PORT; port 0: any that is free."""

    bind: str = "127.0.0.1:8090"
    token: str | None = None
    read_token: str | None = None
    read_only: bool = False
    hosts: tuple[str, ...] = ()

    def application(self, redis: ChosenRedis | Mapping[str, ChosenRedis], metrics: OwnMetrics | None = None) -> ASGI:
        """The guarded application. `redis`: one, or several by shard. Raises ConfigurationError for an address that others reach, without a login."""
        check_login(self.bind, self.token, self.read_token)
        redises = {"": redis} if isinstance(redis, ChosenRedis) else redis
        application = application_of(redises, read_only=self.read_only, metrics=metrics)
        return guarded(
            application,
            read_only=self.read_only,
            token=self.token,
            read_token=self.read_token,
            hosts=self.hosts or None,
        )

    def listen(self) -> socket.socket:
        """Bind it. Raises ConfigurationError."""
        return listen(self.bind)


async def serve(app: ASGI, listener: socket.socket) -> None:
    """Until cancelled. Closes the listener."""
    config = anycorn.Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("trioworkers.web.server")
    config.errorlog.setLevel(logging.WARNING)  # where it listens we say ourselves
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_S
    config.keep_alive_max_requests = REQUESTS_OF_ONE
    config.graceful_timeout = config.shutdown_timeout = END_S
    framework: Any = app
    served = wrap_app(framework, config.wsgi_max_body_size, "asgi")
    async with config.log:
        handler = tcp_server_handler(served, config, WorkerContext(None), {})
        await accept_all(listener, handler)


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
