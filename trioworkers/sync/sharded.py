"""What an App with several Redises has for a blocking client. Few apps have several: it is imported for those."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from trioworkers.errors import BrokerError
from trioworkers.jobs.client_options import Declared
from trioworkers.jobs.exchanges import AskEnded, At, AtEach, Listen, Pause, Step, result
from trioworkers.jobs.layout import Layout
from trioworkers.jobs.meant_redis import There
from trioworkers.jobs.sharded_exchanges import ShardedExchanges, taking_turns
from trioworkers.sync.client import Client

if TYPE_CHECKING:
    from trioworkers.broker.blocking_news import News


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
        return f"<trioworkers.sync.Client: {', '.join(f'{name}: {part!r}' for name, part in self._parts.items())}>"

    def _there(self) -> There:
        return self._all

    def close(self) -> None:
        """Close this process's connections. A later call opens new ones."""
        for part in self._parts.values():
            part.close()

    def result(self, jid: str, *, timeout: float | None = None) -> Any:
        """See `Client.result`. It is looked for in all shards."""
        return self._do(lambda _: result(jid, timeout))

    def _step(self, step: Step, there: There, news: News | None) -> Any:
        del news
        match step:
            case At(shard, its_step):
                part = self._parts[shard]
                its = part._there()  # noqa: SLF001 - one of our own
                with its.explained():
                    return part._step(its_step, its, None)  # noqa: SLF001 - as above
            case AtEach(exchanges):  # a thread for each would outlive an interrupted call, and a fork
                return self._do(lambda _: taking_turns(exchanges))
            case AskEnded():
                return self._ask_all(step, there)
            case Listen(seconds=seconds) | Pause(seconds):
                return time.sleep(seconds)
        raise AssertionError(f"nobody knows where to {step}")

    def _ask_all(self, step: AskEnded, there: There) -> Any:
        failed: BrokerError | None = None
        for shard in self._parts:
            try:
                ended = self._step(At(shard, step), there, None)
            except BrokerError as error:
                failed = error
            else:
                if ended is not None:
                    return ended
        if failed is not None:  # it may be there
            raise failed
        return None
