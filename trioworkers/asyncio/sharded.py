"""What an App with several Redises has for an asyncio client. Few apps have several: it is imported for those."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, cast

from trioworkers.asyncio.client import Client
from trioworkers.errors import BrokerError
from trioworkers.jobs.client_options import Declared
from trioworkers.jobs.exchanges import AskEnded, At, AtEach, Exchange, Listen, Pause, Step, result
from trioworkers.jobs.layout import Layout
from trioworkers.jobs.meant_redis import There
from trioworkers.jobs.sharded_exchanges import ShardedExchanges

if TYPE_CHECKING:
    from trioworkers.broker.asyncio_news import News

T = TypeVar("T")


class ShardedClient(Client):
    """What an App with several Redises has for a client: one for each of them, and what decides between them."""

    def __init__(self, app: Declared, layout: Layout, retry_for: float, max_connections: int) -> None:
        self._parts = {
            name: Client.for_app(app.at(name), retry_for=retry_for, max_connections=max_connections)
            for name in layout.names
        }
        for name, part in self._parts.items():
            part._shard = name  # noqa: SLF001 - one of our own
        exchanges = {name: part._there().exchanges for name, part in self._parts.items()}  # noqa: SLF001 - one of our own
        self._all = There(ShardedExchanges(exchanges, layout, app.telemetry), nullcontext)  # each part explains its own

    def __repr__(self) -> str:
        return f"<trioworkers.asyncio.Client: {', '.join(f'{name}: {part!r}' for name, part in self._parts.items())}>"

    def _there(self) -> There:
        return self._all

    async def aclose(self) -> None:
        """Close its connections. A later call opens new ones."""
        for part in self._parts.values():
            await part.aclose()

    async def result(self, jid: str, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as in `Client`
        """See `Client.result`. It is looked for in all shards."""
        return await self._do(lambda _: result(jid, timeout))

    async def _step(self, step: Step, there: There, news: News | None) -> Any:
        del news
        match step:
            case At(shard, its_step):
                part = self._parts[shard]
                its = part._there()  # noqa: SLF001 - one of our own
                with its.explained():
                    return await part._step(its_step, its, None)  # noqa: SLF001 - as above
            case AtEach(exchanges):
                return await self._carry_on_all(exchanges)
            case AskEnded():
                return await self._ask_all(step, there)
            case Listen(seconds=seconds) | Pause(seconds):
                return await asyncio.sleep(seconds)
        raise AssertionError(f"nobody knows where to {step}")

    async def _carry_on_all(self, exchanges: Mapping[str, Exchange[T]]) -> dict[str, T | BrokerError]:
        async def carry_on(shard: str, exchange: Exchange[T]) -> T | BrokerError:
            try:
                return await self._parts[shard]._do(lambda _: exchange)  # noqa: SLF001 - one of our own
            except BrokerError as error:
                return error

        calls = [carry_on(shard, exchange) for shard, exchange in exchanges.items()]
        found = await asyncio.gather(
            *calls, return_exceptions=True
        )  # not before the last of them has ended, also if we are cancelled
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, BrokerError):
                raise each
        return dict(zip(exchanges, cast("Sequence[T | BrokerError]", found), strict=True))

    async def _ask_all(self, step: AskEnded, there: There) -> Any:
        tasks = [asyncio.ensure_future(self._step(At(shard, step), there, None)) for shard in self._parts]
        failed: BrokerError | None = None
        try:
            for task in asyncio.as_completed(tasks):
                try:
                    ended = await task
                except BrokerError as error:
                    failed = error
                else:
                    if ended is not None:  # whoever has not answered yet needn't
                        return ended
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if failed is not None:  # it may be there
            raise failed
        return None
