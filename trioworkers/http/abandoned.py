"""For what a call holds: given back even if its holder forgets to close it, and nobody knows of it any more."""

from __future__ import annotations

import warnings
from contextlib import suppress

import trio


class GivenBack:
    """Whose last reference goes while something is held (a streamed answer that was never closed) gives it back, a round of the event loop later.

    Python may collect it in any thread, in the middle of anything; so the event loop's own queue is told, which is made for that.
    """

    is_given_back = False

    def __init__(self) -> None:
        self._trio = trio.lowlevel.current_trio_token()

    def give_back(self) -> None:
        """Give back what is held and set `is_given_back`. Awaits nothing."""
        raise NotImplementedError

    def __del__(self) -> None:
        if self.is_given_back or not hasattr(self, "_trio"):
            return
        with suppress(trio.RunFinishedError):  # then there is nothing left to which it could be given
            self._trio.run_sync_soon(self.give_back)
        warnings.warn(f"an answer was never closed: {self!r}", ResourceWarning, source=self, stacklevel=2)
