"""Calls the app's hooks. They are bounded in time, their own errors are logged, and the job's outcome is decided before they hear of it.

An attempt's hooks run in its job's slot, before its outcome is written: so a worker that dies meanwhile runs the job again, and they are told again.
Of jobs that no attempt of ours ended (their workers died under them three times) a task beside the jobs tells.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import trio

from trioworkers.engine.containment import comes_from_outside
from trioworkers.engine.delivery import Delivery
from trioworkers.failures import summary
from trioworkers.jobs.context import Context
from trioworkers.jobs.hooks import Hook, Hooks
from trioworkers.outcome import Bury, Discard, Outcome, Retry

logger = logging.getLogger("trioworkers")

HOOK_S = 10.0
"""How long one hook may take. Its job's slot is taken meanwhile, and a worker that stops waits for it."""
MAX_WAITING = 1000
"""So many deaths wait to be told of; what comes beyond is only logged."""


class HookCalls:
    """One worker's."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._waiting: deque[tuple[Context, BaseException, Sequence[Hook]]] = deque(maxlen=MAX_WAITING)
        self._news = trio.Event()

    def __bool__(self) -> bool:
        return bool(self._hooks)

    async def tell(self, delivery: Delivery, ctx: Context, error: BaseException, outcome: Outcome) -> None:
        """Tell of a failed attempt, whose job will have this outcome. Can't raise. Ended by the delivery's cancellation."""
        hooks = self._wanting(outcome)
        if hooks:
            ctx._sends = NoSends()  # noqa: SLF001 - the runner's side of it
            for hook in hooks:
                await _call(hook, ctx, error, delivery.wait, delivery)

    def tell_later(self, ctx: Context, error: BaseException, outcome: Outcome) -> None:
        """Have `run` tell of it."""
        hooks = self._wanting(outcome)
        if hooks:
            ctx._sends = NoSends()  # noqa: SLF001 - as above
            self._waiting.append((ctx, error, hooks))
            self._news.set()

    async def run(self) -> NoReturn:
        """Tell of what `tell_later` was given, for ever. Cancelled: the rest is not told."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while self._waiting:
                ctx, error, hooks = self._waiting.popleft()
                for hook in hooks:
                    await _call(hook, ctx, error, trio.CancelScope, None)

    def _wanting(self, outcome: Outcome) -> Sequence[Hook]:
        if not isinstance(outcome, Retry | Bury | Discard):
            return ()  # put off, put back: no failure
        return (*self._hooks.on_error, *self._hooks.on_death) if isinstance(outcome, Bury) else self._hooks.on_error


async def _call(
    hook: Hook, ctx: Context, error: BaseException, scope: Callable[[], trio.CancelScope], delivery: Delivery | None
) -> None:
    name = getattr(hook, "__qualname__", repr(hook)[:80])
    ended = False
    try:
        with scope() as bound:
            bound.deadline = trio.current_time() + HOOK_S
            try:
                await hook(ctx, error)
            except BaseException as second:
                # Whatever it raises is its own trouble, be it a panic in a Rust extension; see `containment`.
                if delivery is None and not isinstance(second, Exception):
                    raise
                if delivery is not None and comes_from_outside(second, delivery):
                    raise
                logger.error("hook %s failed for job %s (%s): %s: %s", name, *_of(ctx), *summary(second))
            ended = True
    except RuntimeError as second:  # by the scope: it left one of its own open, and Trio has closed that
        logger.error("hook %s failed for job %s (%s): %s: %s", name, *_of(ctx), *summary(second))
        return
    if not ended and (delivery is None or delivery.cancellation is None):
        logger.error("hook %s took longer than %g s for job %s (%s), and was ended", name, HOOK_S, *_of(ctx))


def _of(ctx: Context) -> tuple[str, str]:
    return ctx.job.jid, ctx.job.job_class


class NoSends(list[Any]):
    """What a hook's `ctx.enqueue` meets: it sends with its job's success, and there was none."""

    def extend(self, _: Iterable[Any]) -> NoReturn:
        """Refuse it: it would be lost without a word."""
        raise RuntimeError(
            "ctx.enqueue sends with the job's success, and it has failed: a hook says `await ctx.client.enqueue(…)`"
        )
