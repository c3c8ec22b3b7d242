"""Client for programs on asyncio: `from trioworkers.asyncio import Client`; needs `pip install 'trioworkers[sync]'`."""

from __future__ import annotations

from trioworkers.asyncio.client import Client

__all__ = ["Client"]
