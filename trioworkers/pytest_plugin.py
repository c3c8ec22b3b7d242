"""Fixtures for pytest. Nothing to configure, and nothing is imported before a test asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trioworkers.testing import Recorded


@pytest.fixture
def run_app() -> Callable[..., Any]:
    """What runs an app without Redis: `trioworkers.testing.run`."""
    from trioworkers.testing import run  # noqa: PLC0415 - see above

    return run


@pytest.fixture
def sent_jobs() -> Iterator[Recorded]:
    """What blocking and asyncio clients send during the test, instead of Redis: `trioworkers.testing.recording`."""
    from trioworkers.testing import recording  # noqa: PLC0415 - see above

    with recording() as recorded:
        yield recorded
