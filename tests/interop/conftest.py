"""Fixtures: a Rails shop for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Server
from shop import Shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    server = Server(folder).start()
    shop = Shop(server, folder)
    yield shop
    shop.close()
    server.kill()
