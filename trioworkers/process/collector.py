"""Has Python look for garbage less often. Only where the process is ours: in `app.run()` and the command line."""

from __future__ import annotations

import atexit
import gc
import linecache
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (10_000, 10, 20)
"""For a command, and a worker with few slots."""

OBJECTS_PER_SLOT = 250
"""What a job with four HTTP calls holds, and some."""
MOST_YOUNG = 50_000


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
def patient_collector(slots: int) -> Iterator[None]:
    """For a worker that runs up to so many jobs at once.

    A thousand waiting jobs are some 50,000 objects, and 200,000 if each makes four HTTP calls. By default their coming and going made Python
    go through everything again and again, a third of all CPU, to find next to nothing: a job leaves no cycles behind, unless its handler
    makes some. Now what was loaded before the start is never looked at, and the oldest generation only once in two million objects.

    Python counts how many more objects there are than after its last look, and then goes through all that came since. With many slots that
    number goes up and down by tens of thousands by itself: it may grow with the slots. So garbage holds no more than full slots would.

    And what is kept of the text of code goes: attrs keeps each method that it has made, for debuggers, 0.6 MB in all. Of files it is read again when a traceback needs it.
    """
    linecache.clearcache()
    before = gc.get_threshold()
    usual = gc.isenabled() and (before == THRESHOLDS or before[0] <= 2000)
    if usual:  # else somebody has thought about it already
        gc.freeze()
        gc.set_threshold(*thresholds_for(slots))
    try:
        yield
    finally:
        if usual:
            gc.set_threshold(*before)
            gc.unfreeze()


def thresholds_for(slots: int) -> tuple[int, int, int]:
    """When each generation is looked at. However many slots there are, the oldest comes as seldom."""
    young, middle, old = THRESHOLDS
    most = min(max(young, OBJECTS_PER_SLOT * slots), MOST_YOUNG)
    return most, middle, old * young // most
