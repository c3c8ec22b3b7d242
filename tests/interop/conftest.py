"""Fixtures: a Rails shop for the whole session, an office with Sidekiq Web for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from office import Office, opened_office
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


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with opened_office(tmp_path_factory.mktemp("web")) as office:
        yield office


@pytest.fixture
def office(opened: Office) -> Office:
    """The module's office, emptied, with one worker that runs."""
    opened.reset()
    if not any(worker.process.poll() is None for worker in opened.workers):
        opened.start_worker().wait_started()
    return opened
