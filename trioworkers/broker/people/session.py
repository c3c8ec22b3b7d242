"""What people's tools work with: one connection of their own to one Redis, and all that looks and acts over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs

from trioworkers.broker.people.inspection import Inspector
from trioworkers.broker.redis.connection import REPLY_TIMEOUT_S, Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.wire.keys import Keys

if TYPE_CHECKING:
    from trioworkers.broker.people.fleet_control import FleetControl
    from trioworkers.broker.people.operator_actions import OperatorActions


@attrs.frozen
class Session:
    """What a command or a page works with. `connection`: for what has no method of its own yet."""

    inspector: Inspector
    connection: Connection
    keys: Keys

    @property
    def fleet(self) -> FleetControl:
        """What speaks to workers."""
        from trioworkers.broker.people.fleet_control import FleetControl  # noqa: PLC0415 - most commands only look

        return FleetControl(self.connection, self.keys)

    @property
    def actions(self) -> OperatorActions:
        """What acts on jobs."""
        from trioworkers.broker.people.operator_actions import OperatorActions  # noqa: PLC0415 - as above

        return OperatorActions(self.connection, self.keys)


def session_over(connection: Connection, keys: Keys) -> Session:
    """Everything over one connection."""
    return Session(Inspector(connection, keys), connection, keys)


@asynccontextmanager
async def open_session(
    url: str, namespace: str, link: Link, reply_timeout_s: float = REPLY_TIMEOUT_S
) -> AsyncIterator[Session]:
    """A session over a connection of its own, which is made when it is first used. Raises and cancelled as `connect`."""
    async with connect(url, link, namespace=namespace, reply_timeout_s=reply_timeout_s) as connection:
        yield session_over(connection, Keys(namespace))
