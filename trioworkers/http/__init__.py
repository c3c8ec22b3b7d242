"""Placeholder until the real one lands."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Limit:
    concurrency: int | None = None


@attrs.frozen
class Http:
    timeout: float = 30.0


def open_client(http: Http) -> Any:
    import httpx

    return httpx.AsyncClient(timeout=http.timeout, trust_env=False)
