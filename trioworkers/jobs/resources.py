"""What all jobs of one worker share, opened with it and closed with it: HTTP client, sending client, CPU processes, state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from trioworkers.http import Http, open_client
from trioworkers.http.idempotency import signing
from trioworkers.http.time_left import telling
from trioworkers.jobs.client import Client

if TYPE_CHECKING:
    import httpx

    from trioworkers.http.shared_client import SharedClient
    from trioworkers.http.traced import Around
    from trioworkers.jobs.compute import CPUPool
    from trioworkers.jobs.limits import FleetLimit
    from trioworkers.wire.hosts import HostState
    from trioworkers.wire.job import Job

T = TypeVar("T")


class SharedResources:
    """Opens the dear ones when a job first asks for them."""

    def __init__(self, client: Client, cpu_processes: int, http: Http, state: Any, nursery: trio.Nursery) -> None:
        self.client = client
        self.state = state
        self._cpu_processes = cpu_processes
        self._cpu: CPUPool | None = None
        self._http_options = http
        self._http: httpx.AsyncClient | None = None
        self._own_http: SharedClient | None = None
        self._nursery = nursery
        self.hold_limit: Callable[[Job, str | FleetLimit, Any], AbstractAsyncContextManager[None]]
        """Set by whoever runs jobs."""
        self.on_call: Callable[[str, str], None] | None = None
        """Told of each HTTP call that has ended: its host, and how."""
        self.around_call: Around | None = None
        """Around each HTTP call: telemetry."""

    @property
    def http(self) -> httpx.AsyncClient:
        """The shared HTTP client."""
        if self._http is None:
            self._http = self._own_http = open_client(self._http_options).lend()
            self._own_http.observe(self.on_call)
            if self.around_call is not None:
                self._own_http.trace(self.around_call)
            self._nursery.start_soon(self._own_http.expire)
        return self._http

    def hosts(self) -> list[HostState] | None:
        """How the hosts do that jobs call; None if no job has called one yet, or over another client than ours."""
        return None if self._own_http is None else list(self._own_http.hosts())

    def use(self, http: httpx.AsyncClient) -> None:
        """Have jobs use this client, before any has asked for one."""
        self._http = http
        hooks = getattr(http, "event_hooks", {})
        if "request" in hooks:
            hooks["request"].append(signing)
            hooks["request"].append(partial(telling, self._http_options.deadline_header))

    async def run_cpu(self, function: Callable[..., T], *args: Any) -> T:
        """See `Context.run_cpu`."""
        if self._cpu is None:
            from trioworkers.jobs.compute import CPUPool  # noqa: PLC0415 - dear to import, and few workers compute

            self._cpu = CPUPool(self._nursery, self._cpu_processes)
        return await self._cpu.run(function, *args)

    def limit(self, job: Job, limit: str | FleetLimit, key: Any) -> AbstractAsyncContextManager[None]:
        """See `Context.limit`."""
        return self.hold_limit(job, limit, key)

    @property
    def is_busy_outside(self) -> bool:
        """Whether something is waited for that no clock of Trio's knows: a computation in another process, a service on the network."""
        return (self._cpu is not None and self._cpu.is_busy) or getattr(self._http, "is_on_the_network", False) is True

    async def aclose(self) -> None:
        """Close what was opened here."""
        if self._cpu is not None:
            await self._cpu.aclose()
        self._nursery.cancel_scope.cancel()
        if self._own_http is not None:
            await self._own_http.take_back()
        elif self._http is not None:
            await self._http.aclose()


@asynccontextmanager
async def open_resources(
    client: Client, http: Http, cpu_processes: int, lifespan: Callable[[], Any] | None
) -> AsyncIterator[SharedResources]:
    """A worker's resources, the app's lifespan around them; all closed at the end of the block."""
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(lifespan()) if lifespan is not None else None
        # Within the lifespan, whose end must not be cancelled together with it.
        nursery = await stack.enter_async_context(trio.open_nursery())
        resources = SharedResources(client, cpu_processes, http, state, nursery)
        stack.push_async_callback(resources.aclose)
        yield resources
