"""Workers that each have a way of their own to Redis, so that they can be cut off together and come back apart."""

from __future__ import annotations

from contextlib import ExitStack

from proxy import Proxy
from servers import Server, Worker, wait_for


class CutOff:
    """`proxies` and `workers` have the same numbers."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.server, self._stack = server, stack
        self.proxies: list[Proxy] = []
        self.workers: list[Worker] = []

    def way(self) -> str:
        """The address of Redis for one more worker."""
        proxy = Proxy(self.server.port)
        self._stack.callback(proxy.close)
        self.proxies.append(proxy)
        return proxy.url

    def cut(self) -> None:
        for proxy in self.proxies:
            proxy.refuse = True
            proxy.reset_all()

    def come_back(self, number: int) -> None:
        self.proxies[number].refuse = False
        wait_for(lambda: "is back after" in self.workers[number].text, "it is back")
