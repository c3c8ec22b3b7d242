"""Time zones by their IANA names, and which release of their data this machine has."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

MAX_NAME = 200

_NO_ZONES = {"localtime", "posixrules", "Factory"}
_COPIES = ("posix/", "right/")
"""Of all zones, on some machines: the same under another name, and with leap seconds, which epoch seconds don't have."""
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")


@cache
def zone_named(name: str) -> ZoneInfo:
    """An IANA zone. Raises ValueError."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - a worker without periodic jobs doesn't need it

    problem = f"a zone is a name like 'Europe/Berlin', not {name!r:.80}"
    if (
        not isinstance(name, str)
        or len(name) > MAX_NAME
        or not _ZONE.fullmatch(name)
        or name in _NO_ZONES
        or name.startswith(_COPIES)
    ):
        raise ValueError(problem)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{problem}, which this machine's time zone data doesn't have") from None


@cache
def zone_data() -> str:
    """Which release of the time zone data this process computes with, like `2026a`; "unknown" if it doesn't say."""
    import zoneinfo  # noqa: PLC0415 - a worker without periodic jobs doesn't need it

    for folder in zoneinfo.TZPATH:
        if (Path(folder) / "Europe" / "Berlin").is_file():
            return _release_in(Path(folder))
    try:
        return str(import_module("tzdata").IANA_VERSION)
    except ImportError:
        return "unknown"


def _release_in(folder: Path) -> str:
    for name in ("tzdata.zi", "+VERSION"):
        try:
            with (folder / name).open(encoding="ascii", errors="replace") as file:
                first = file.readline(100)
        except OSError:
            continue
        found = re.search(r"\b\d{4}[a-z]+\b", first)
        if found:
            return found[0]
    return "unknown"
