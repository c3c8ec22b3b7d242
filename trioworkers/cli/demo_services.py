"""The demo's stand-in for four analytics services: one slow, one that refuses now and then and asks to be called again."""

from __future__ import annotations

import re

import attrs
import trio

NAMES = ("generic", "google", "mixpanel", "segment")
SLOW, FLAKY = "mixpanel", "segment"
DELAY_S = {SLOW: 0.1}
REFUSE_EVERY = 20

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"idempotency-key: *([^\r\n]+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_LATER = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


@attrs.define
class Services:
    """Serves, and counts what comes. `delivered`: different calls that succeeded; `repeated`: calls made again after that."""

    total: int = 0
    refused: int = 0
    repeated: int = 0
    _succeeded: set[bytes] = attrs.field(factory=set)
    _refused_keys: set[bytes] = attrs.field(factory=set)

    @property
    def delivered(self) -> int:
        """How many different calls succeeded."""
        return len(self._succeeded)

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on a free port of 127.0.0.1, which is what the start reports."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._converse, listeners)
            task_status.started(listeners[0].socket.getsockname()[1])

    async def _converse(self, stream: trio.SocketStream) -> None:
        buffer = b""
        try:
            while True:
                head, separator, rest = buffer.partition(b"\r\n\r\n")
                length = int(found[1]) if (found := _LENGTH.search(head)) else 0
                if separator and len(rest) >= length:
                    buffer = rest[length:]
                    await stream.send_all(await self._answer(head))
                elif chunk := await stream.receive_some(65536):
                    buffer += chunk
                else:
                    return
        except trio.BrokenResourceError:
            return

    async def _answer(self, head: bytes) -> bytes:
        name = head.split(b" ", 2)[1].decode(errors="replace").strip("/")
        key = found[1] if (found := _KEY.search(head)) else b""
        self.total += 1
        await trio.sleep(DELAY_S.get(name, 0.01))
        if name == FLAKY and key not in self._refused_keys and self.total % REFUSE_EVERY == 0:
            self._refused_keys.add(key)
            self.refused += 1
            return _LATER
        if key in self._succeeded:
            self.repeated += 1
        self._succeeded.add(key)
        return _OK
