"""What a page is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import attrs

from trioworkers.web.visit import Visit

Part = tuple[str, Mapping[str, Any]]
"""A template, and what it shows."""
Parts = AsyncGenerator[Part, None]


@attrs.frozen
class Page:
    """`live`: it is fetched again and again while somebody looks at it. `slow`: its head goes out at once, and its parts as they come."""

    path: str
    title: str
    parts: Callable[[Visit], Parts]
    live: bool = False
    slow: bool = False
