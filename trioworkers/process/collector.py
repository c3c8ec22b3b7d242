"""Has Python look for garbage less often. Only where the process is ours: in `app.run()` and the command line."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (10_000, 10, 20)


@contextmanager
def hurried_collector() -> Iterator[None]:
    """For a command.

    The modules that it imports are half a million objects, and no garbage. What is left at the end goes with the process; Python would look
    through all of it first, for a seventh of a short command's CPU.
    """
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def patient_collector() -> Iterator[None]:
    """For a worker.

    A thousand waiting jobs are some 50,000 objects. By default their coming and going made Python go through everything again
    and again, a third of all CPU, to find next to nothing: a job leaves no cycles behind, unless it fails. Now what was loaded
    before the start is never looked at, and the oldest generation only once in two million objects.
    """
    before = gc.get_threshold()
    usual = gc.isenabled() and (before == THRESHOLDS or before[0] <= 2000)
    if usual:  # else somebody has thought about it already
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        if usual:
            gc.set_threshold(*before)
            gc.unfreeze()
