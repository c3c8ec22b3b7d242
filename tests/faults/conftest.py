"""Fixtures of the fault suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proxy import Proxy
from servers import Server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()
