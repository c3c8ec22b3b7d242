"""Standard streams that the caller has closed (`2>&-`): something harmless stands in for them."""

from __future__ import annotations

import os
import sys


def fill_closed_streams() -> None:
    """Else what is opened next, a connection to Redis, say, gets their descriptors, and is written to by whoever means them."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - as above
