"""An HTTP server that answers every request after a delay, cheaply: what it costs must not blur what is measured.

`python sink.py [--delay 0.02]` prints its port, serves until its standard input closes, then prints how many requests it answered.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + b'{"answer": "ok"}'[:15]


class Sink(asyncio.Protocol):
    """One connection. A request ends with its headers, or with as many bytes of body as they announce."""

    delay_s = 0.02
    answered = 0

    def __init__(self) -> None:
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while True:
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            lower = head.lower()
            at = lower.find(b"content-length:")
            length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(rest) < length:
                return
            self._rest = rest[length:]
            asyncio.get_running_loop().call_later(self.delay_s, self._answer)

    def _answer(self) -> None:
        Sink.answered += 1
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(ANSWER)


async def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.02)
    Sink.delay_s = parser.parse_args().delay
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    print(Sink.answered, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
