"""Moves by hand."""

from __future__ import annotations

from trioworkers.broker.connection import Connection
from trioworkers.wire.keys import Keys


class HandMoves:
    """Acts on one Redis database."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
