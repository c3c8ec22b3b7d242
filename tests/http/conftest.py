"""For the tests of the client."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from servers import wait_for

from trioworkers import lookup


@pytest.fixture
def held_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names for which the name server has no answer before the test is over; all others are ours."""
    held: set[str] = set()
    over = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        if host in held or any(host.endswith(name) for name in held if name.startswith(".")):
            over.wait(60)
        return ["127.0.0.1"]

    monkeypatch.setattr(lookup, "_resolve", resolve)
    yield held
    over.set()
    wait_for(lambda: not lookup._running, "the lookups of this test end")
