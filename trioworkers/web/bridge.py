"""Under Trio the application as it is; under asyncio over a thread of its own, in which Trio runs.

The thread is started by the first request and ends with the process, or with the server's lifespan where we are told of it. What a browser sends is read here,
what is answered is handed over piece by piece, and a browser that leaves cancels its page.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from trioworkers.web.http import ASGI, Message, Receive, Scope, Send


class Bridge:
    """`app`, wherever it is awaited."""

    def __init__(self, app: ASGI) -> None:
        self._app = app
        self._thread: _TrioThread | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan of a server whose only application this is."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif trio.lowlevel.in_trio_run():
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._in_thread(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                if self._thread is not None:
                    self._thread.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    async def _in_thread(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        replies: asyncio.Queue[Message | None] = asyncio.Queue()
        failed: list[BaseException] = []

        def tell(message: Message | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody reads any more
                loop.call_soon_threadsafe(replies.put_nowait, message)

        thread = self._running_thread()
        visit = _Visit(partial(self._app, scope), tell, failed, thread.soon)
        thread.start(visit.run)
        reader = asyncio.create_task(_pass_on(receive, visit))
        try:
            while (message := await replies.get()) is not None:
                await send(message)
        finally:
            visit.leave()
            reader.cancel()
        if failed:
            raise failed[0]

    def _running_thread(self) -> _TrioThread:
        if self._thread is None or not self._thread.is_alive:
            self._thread = _TrioThread()
        return self._thread


async def _pass_on(receive: Receive, visit: _Visit) -> None:
    while True:
        message = await receive()
        visit.hear(message)
        if message["type"] == "http.disconnect":
            return


class _Visit:
    """One request as the Trio thread has it. `soon`: has something done in that thread."""

    def __init__(
        self,
        app: Callable[[Receive, Send], Awaitable[None]],
        tell: Callable[[Message | None], None],
        failed: list[BaseException],
        soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._app = app
        self._tell = tell
        self._failed = failed
        self._soon = soon
        self._scope = trio.CancelScope()
        self._heard: deque[Message] = deque()
        self._news = trio.Event()

    async def run(self) -> None:
        """In Trio."""
        try:
            with self._scope:
                await self._app(self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - raised by whoever awaits the request, in its own loop
            self._failed.append(error)
        finally:
            self._tell(None)

    async def _receive(self) -> Message:
        while not self._heard:
            await self._news.wait()
            self._news = trio.Event()
        return self._heard.popleft()

    async def _send(self, message: Message) -> None:
        self._tell(message)
        await trio.lowlevel.checkpoint()

    def hear(self, message: Message) -> None:
        """From the other loop: something came from the browser."""
        self._soon(partial(self._add, message))

    def leave(self) -> None:
        """From the other loop: nobody waits for an answer any more."""
        self._soon(self._scope.cancel)

    def _add(self, message: Message) -> None:
        self._heard.append(message)
        self._news.set()


class _TrioThread:
    """Trio in a thread of its own."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken
        self._nursery: trio.Nursery
        self._thread = threading.Thread(target=self._run, name="trioworkers-web", daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def is_alive(self) -> bool:
        """Whether it runs here: a process that was forked has none of our threads."""
        return self._thread.is_alive() and self._pid == os.getpid()

    def start(self, call: Callable[[], Awaitable[None]]) -> None:
        """Have it run; it doesn't raise."""
        self.soon(lambda: self._nursery.start_soon(call))

    def soon(self, what: Callable[[], None]) -> None:
        """Have something small done there."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(what)

    def stop(self) -> None:
        """Cancel all that it runs, and end."""
        self.soon(self._nursery.cancel_scope.cancel)

    def _run(self) -> None:
        trio.run(self._main)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._ready.set()
            await trio.sleep_forever()
