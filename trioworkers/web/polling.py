"""How often open pages ask: each of them every three seconds, and less often when there are many. So they cost the server the same CPU, however many they are."""

from __future__ import annotations

import trio

EVERY_S = 3
MOST_EVERY_S = 60
ASKED_A_SECOND = 20
"""So often all pages together may ask before each is told to wait longer: sixty pages."""
_AS_LONG = 50
"""So many questions too many make the wait a second longer: with hundreds of pages it is found within ten seconds, and doesn't swing."""


class Polling:
    """Of all pages that one program serves."""

    def __init__(self) -> None:
        self._too_many = 0.0
        self._asked_at = 0.0

    def asked(self) -> int:
        """A page is asked for; in how many seconds it may be asked for again."""
        now = trio.current_time()
        left = self._too_many - (now - self._asked_at) * ASKED_A_SECOND
        self._too_many = min(max(0.0, left) + 1.0, float(MOST_EVERY_S * _AS_LONG))
        self._asked_at = now
        return min(EVERY_S + int(self._too_many) // _AS_LONG, MOST_EVERY_S)
