"""A dashboard over a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from servers import Server
from visiting import HERE, visiting

from trioworkers.web import asgi


@pytest.fixture
async def visitor(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with visiting(asgi(redis_url), headers=HERE) as found:
        yield found


@pytest.fixture
def command(shared_server: Server) -> Callable[..., Any]:
    return shared_server.command
