"""What of what a handler raises is its own job's failure, and what came to it from outside and goes on to the worker.

Only three things come from outside: the cancellation of the attempt's own scope; Ctrl-C, where the worker is part of a program that leaves
that to Trio; and the end of the whole program, in which Python closes the coroutines that are left. A handler can raise
the very same classes itself, or hand on what a thread raised or a cache kept: that is a failure like any other.
"""

from __future__ import annotations

import trio

from trioworkers.engine.delivery import Delivery
from trioworkers.failures import innermost_module, is_a, is_small, leaves

_TRIOS_SIGNAL_HANDLER = "trio._core._ki"


def comes_from_outside(error: BaseException, delivery: Delivery) -> bool:
    """Whether `error`, raised in the attempt of `delivery`, must go on to those who wait for it."""
    if is_a(error, Exception):
        return False
    found = list(leaves(error))
    if any(is_ctrl_c(leaf) or _is_closed(leaf, delivery) for leaf in found):
        return True
    cancelled = delivery.scope is not None and delivery.scope.cancel_called
    return cancelled and all(is_a(leaf, trio.Cancelled) for leaf in found)


def passes_by(leaf: BaseException) -> bool:
    """The same of an error that a task has left behind which belongs to no attempt."""
    closed = is_a(leaf, GeneratorExit) and _running_task() is None
    return closed or is_a(leaf, trio.Cancelled) or is_ctrl_c(leaf)


def own_part(error: BaseException) -> BaseException:
    """A failure without the cancellations that Trio has put into one group with it."""
    if not any(is_a(leaf, trio.Cancelled) for leaf in leaves(error)) or not is_small(error):
        return error
    try:
        _, rest = error.split(trio.Cancelled)  # type: ignore[attr-defined]
    except BaseException as second:
        if is_ctrl_c(second):
            raise
        return error  # a group of the handler's own class, which can't be split: then as it is
    return error if rest is None else rest


def is_ctrl_c(leaf: BaseException) -> bool:
    """Whether Trio raised it, for a signal that came while a program of the user's leaves those to Trio."""
    return is_a(leaf, KeyboardInterrupt) and innermost_module(leaf) == _TRIOS_SIGNAL_HANDLER


def _is_closed(leaf: BaseException, delivery: Delivery) -> bool:
    """Whether Python closes the attempt's coroutine: then it isn't Trio who has it run."""
    if not is_a(leaf, GeneratorExit):
        return False
    running = _running_task()
    return running is None or (delivery.task is not None and running is not delivery.task)


def _running_task() -> trio.lowlevel.Task | None:
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:  # no Trio at all any more
        return None
