"""What was sent, and whether it is what a test expects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs

from trioworkers.jobs.handler import AnyHandler, Handler
from trioworkers.send import moment
from trioworkers.shards import called
from trioworkers.wire.job import Job
from trioworkers.wire.plain import plain

SHOWN = 20


@attrs.frozen
class SentJob:
    """A job that was sent; `due_s`: when it is due, in epoch seconds; None for at once. `shard`: into which shard, if the App has several Redises."""

    job: Job
    due_s: float | None = None
    shard: str | None = None

    def __str__(self) -> str:
        when = "" if self.due_s is None else f", due at {self.due_s:.3f}"
        return f"{self.job.job_class} on {self.job.queue} with {list(self.job.args)!r:.200}{when}{_in(self.shard)}"


class SentJobs:
    """All that was sent, in this order. `now_s`: the time in epoch seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.sent: list[SentJob] = []
        self._now_s = now_s

    def clear(self) -> None:
        """Forget it."""
        self.sent.clear()

    def assert_enqueued(
        self,
        wanted: AnyHandler | str,
        *,
        args: Sequence[Any] | None = None,
        queue: str | None = None,
        at: datetime | timedelta | float | None = None,
        within: float = 1.0,
        count: int | None = None,
        shard: str | None = None,
        where: Callable[[Job], bool] | None = None,
    ) -> list[Job]:
        """Raise AssertionError, which lists what was sent, unless jobs of this handler or class were; returns them.

        Sent by anybody, whether they have run since or not. `args`: as the handler takes them; `...` stands for any one. `at`: when they are
        due, as for `schedule`, give or take `within` seconds. `count`: exactly so many. `shard`: where they are, of an App with several Redises; "" for its own. `where`: what must hold of each.
        """
        found = self._found(wanted, args, queue, at, within, shard, where)
        if len(found) == count or (count is None and found):
            return found
        how_many = "no such job was sent" if not found else f"{len(found)} such jobs were sent, not {count}"
        raise AssertionError(f"{how_many}: {_said(wanted, args, queue, at, shard)}; {self._told()}")

    def refute_enqueued(
        self,
        wanted: AnyHandler | str,
        *,
        args: Sequence[Any] | None = None,
        queue: str | None = None,
        at: datetime | timedelta | float | None = None,
        within: float = 1.0,
        shard: str | None = None,
        where: Callable[[Job], bool] | None = None,
    ) -> None:
        """Raise AssertionError if such a job was sent; see `assert_enqueued`."""
        found = self._found(wanted, args, queue, at, within, shard, where)
        if found:
            raise AssertionError(f"such a job was sent: {_said(wanted, args, queue, at, shard)}; {self._told()}")

    def _found(
        self,
        wanted: AnyHandler | str,
        args: Sequence[Any] | None,
        queue: str | None,
        at: datetime | timedelta | float | None,
        within_s: float,
        shard: str | None,
        where: Callable[[Job], bool] | None,
    ) -> list[Job]:
        return [
            each.job
            for each in self.sent
            if _is_of(each.job, wanted, queue)
            and (args is None or _fits(each.job, wanted, args))
            and (at is None or self._is_due(each, at, within_s))
            and (shard is None or each.shard == shard)
            and (where is None or where(each.job))
        ]

    def _is_due(self, sent: SentJob, at: datetime | timedelta | float, within_s: float) -> bool:
        delay_s, at_s = moment(at)
        due_s = self._now_s() + (delay_s or 0.0) if at_s is None else at_s
        return sent.due_s is not None and abs(sent.due_s - due_s) <= within_s

    def _told(self) -> str:
        if not self.sent:
            return "nothing was sent"
        lines = [f"\n  {each}" for each in self.sent[:SHOWN]]
        more = len(self.sent) - SHOWN
        return "".join(["sent were:", *lines, *([f"\n  … and {more} more"] if more > 0 else [])])


def _is_of(job: Job, wanted: AnyHandler | str, queue: str | None) -> bool:
    if isinstance(wanted, Handler):
        return job.job_class == wanted.job_class and job.queue == (queue or wanted.queue)
    return job.job_class == wanted and (queue is None or job.queue == queue)


def _fits(job: Job, wanted: AnyHandler | str, args: Sequence[Any]) -> bool:
    if isinstance(wanted, Handler) and ... not in args:
        return list(_as_sent(job.args)) == list(_as_sent(wanted.job(*args).args))
    if len(job.args) != len(args):
        return False
    return all(
        expected is ... or _as_sent([given]) == _as_sent([expected])
        for given, expected in zip(job.args, args, strict=True)
    )


def _as_sent(args: Sequence[Any]) -> Iterator[Any] | list[Any]:
    """As JSON has them: a tuple is a list there."""
    return [_lists(plain(value)) for value in args]


def _lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]
    return {key: _lists(item) for key, item in value.items()} if isinstance(value, dict) else value


def _said(
    wanted: AnyHandler | str, args: Sequence[Any] | None, queue: str | None, at: object, shard: str | None
) -> str:
    name = wanted.job_class if isinstance(wanted, Handler) else wanted
    on = queue or (wanted.queue if isinstance(wanted, Handler) else "")
    parts = [
        name,
        f"on {on}" if on else "",
        "" if args is None else f"with {list(args)!r:.200}",
        f"at {at}" if at is not None else "",
        _in(shard).removeprefix(", "),
    ]
    return " ".join(part for part in parts if part)


def _in(shard: str | None) -> str:
    return "" if shard is None else f", in {called(shard)}"
