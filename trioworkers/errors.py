"""Our exceptions.

Three families under one base: what a handler raises to steer its job (`RetryAfter`, `Bury`, `Discard`), what the program
around us got wrong (`ConfigurationError`, `BadJob`), and what Redis or the other workers did to us (`BrokerError`, …).
"""

from __future__ import annotations

from typing import Any, Self

from trioworkers.seconds import is_moment, said_of_moment


class TrioworkersError(Exception):
    """Base of all our exceptions."""


class ConfigurationError(TrioworkersError):
    """An app, a queue, a handler or an option is wrong. It is raised at start, and the message says where. Change the program."""


class WrongUsage(ConfigurationError):
    """A command line makes no sense, or what the environment says in its place. The command ends with status 2, as for an option that there isn't."""


class NotFound(TrioworkersError):
    """A command was told of a job, a queue, a process, a file or a module that isn't there."""


class Ambiguous(TrioworkersError):
    """A command was told how a jid or an identity begins, and several begin so. The message lists them; nothing was done."""


class BadPayload(TrioworkersError):
    """A payload can't be read as a job. Raised by `trioworkers.wire`; the runner buries the payload as it came."""


class BadJob(TrioworkersError):
    """A job can't be sent: its values don't fit Sidekiq's format. Raised where it is enqueued; nothing was sent."""


class BadCall(BadJob, TypeError):
    """`handler.job(…)` was called with arguments that its handler doesn't take, or would read as something else. Raised there; no job was made."""


class BadArguments(TrioworkersError):
    """A job's arguments don't fit its handler. Not retried: the job is buried with this as its error."""


class UnknownClass(TrioworkersError):
    """No handler of this queue takes the class. The job is retried as after any failure, because a later deploy may know the class.

    `hopeless`: the app sends such jobs to the dead set at once. In both cases they are kept, unless they say `dead: false`.
    """

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


class CPUWorkerDied(TrioworkersError):
    """The process of a `Context.run_cpu` call ended unexpectedly. The job is retried as after any failure."""


class WorkerDied(TrioworkersError):
    """Three workers died while they ran the job. It is in the dead set. `@app.on_death` gets this error; it is never raised."""


class Steer(TrioworkersError):
    """Base of what a handler raises to say itself how its attempt ended."""


class RetryAfter(Steer):
    """Raise it in a handler: try again in `delay_s` seconds. It counts as a failed attempt, and as one of the job's retries."""

    def __init__(self, delay_s: float, reason: str = "") -> None:
        if isinstance(delay_s, bool) or not isinstance(delay_s, int | float):
            raise ValueError(f"RetryAfter takes a number of seconds from now, not {delay_s!r:.80}")  # noqa: TRY004 - one kind of error for all of these
        if is_moment(delay_s) and delay_s < float("inf"):
            raise ValueError(f"RetryAfter takes seconds from now, not {said_of_moment(delay_s)}")
        if not 0 <= delay_s < float("inf"):
            raise ValueError(f"RetryAfter takes seconds from 0 on, not {max(delay_s, -1e300):g}")
        super().__init__(reason or f"asked to be retried in {delay_s:g} s")
        self.delay_s = float(delay_s)


class RateLimited(Steer):
    """Raise it in a handler: the service wants no more calls for `retry_after` seconds (a day at most).

    The limits of the job are closed for this time, for the whole fleet. When they open, this job is the first. No attempt is counted, for up to a
    day in all. If the job has no limit, only the job itself waits.
    """

    def __init__(self, retry_after: float, reason: str = "") -> None:
        if isinstance(retry_after, bool) or not isinstance(retry_after, int | float) or not 0 < retry_after <= 86_400:
            raise ValueError(f"RateLimited takes seconds above 0 and up to a day, not {retry_after!r:.80}")
        super().__init__(reason or f"the service wants no calls for {retry_after:g} s")
        self.retry_after_s = float(retry_after)


class Bury(Steer):
    """Raise it in a handler: the job has failed for good, and goes to the dead set with this reason."""


class RecordsLost(Bury):
    """Results of a job's steps are gone (deleted, or not in an export). So we don't know which steps are done."""


class Discard(Steer):
    """Raise it in a handler: the job has failed for good, and is forgotten. It is only counted."""


class BrokerError(TrioworkersError):
    """Base of what goes wrong between us and Redis."""


class Unavailable(BrokerError):
    """Redis can't be reached or can't serve now (down, loading, read-only, full, disk trouble). Trying later may succeed.

    The call may have been executed all the same, if only its reply was lost.
    """


class CannotServe(Unavailable):
    """Redis answers, but can't serve now: it is loading, read-only, full, busy, or its cluster has our slot elsewhere."""


class Unreachable(Unavailable):
    """There is no connection to Redis; the text says why, `advice` what to do about it."""

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(text, advice)
        self.advice = advice

    def __str__(self) -> str:
        return str(self.args[0])


class Refused(BrokerError):
    """Redis refused a command: wrong password, no permission, wrong type of key. To try again doesn't help."""


class DuplicateJob(Refused):
    """A job with `on_conflict="raise"` was not sent, because another job has its lock. No job of that call was sent. `duplicate_of`: the jid of the other job."""

    def __init__(self, message: str, duplicate_of: str = "") -> None:
        super().__init__(message, duplicate_of)
        self.duplicate_of = duplicate_of

    def __str__(self) -> str:
        return str(self.args[0])


class WrongLogin(Refused):
    """Redis doesn't know our user or password, or wants one and got none."""


class SharedQueue(Refused):
    """The app is strict, and another kind of worker fetches from one of its queues.

    It is raised at start. Later the worker stops first, and then it is raised. Use separate queues, stop the other worker, or don't be strict.
    """


class Superseded(BrokerError):
    """Another live worker has our process id. It is raised at start, or later in a worker that was taken for dead."""


class BadResult(TrioworkersError):
    """The value that a handler returned can't be kept as its job's result: it is no JSON, or more than 64 KiB. The attempt has failed."""


class NotRecorded(TrioworkersError):
    """A step or a row of an iteration is done, but Redis refused its record. The attempt has failed. If the record can be written later, the next attempt gets it."""


class DeadlinePassed(TrioworkersError):
    """A job had not ended by its deadline. It is not retried."""


class JobFailed(TrioworkersError):
    """`Client.result` raises it for a dead job: it failed, and is not retried. `error_class`, `message`: its last failure."""

    def __init__(self, jid: str, error_class: str, message: str) -> None:
        super().__init__(
            f"job {jid} is dead: {error_class or 'for an unknown reason'}{': ' if message else ''}{message}"
        )
        self.jid = jid
        self.error_class = error_class
        self.message = message


class JobGone(TrioworkersError):
    """`Client.result` raises it for a job that ended without a result.

    `how`: "discarded", "expired", "deleted", "purged" or "replaced".
    """

    def __init__(self, jid: str, how: str) -> None:
        super().__init__(
            f"job {jid} has no result: it was {how}" if how != "expired" else f"job {jid} has no result: it expired"
        )
        self.jid = jid
        self.how = how


class HostPaused(TrioworkersError):
    """The call was not sent: its host failed so often in a row that it is paused for all jobs. `retry_after`: seconds to wait.

    A job with no other failure comes back after that time, and no attempt is counted.
    """

    def __init__(self, host: str, retry_after: float) -> None:
        super().__init__(f"{host} failed too often in a row and is paused for {retry_after:.1f} s")
        self.host = host
        self.retry_after = retry_after


class ResponseTooLarge(TrioworkersError):
    """An answer is longer than `Http.max_response_bytes`. It is permanent in a fan-out."""

    permanent = True


class PrivateAddress(TrioworkersError):
    """The host of a URL has an address that isn't public, and the app says `Http(private_addresses=False)`. It is permanent in a fan-out."""

    permanent = True


class CallFailed(TrioworkersError):
    """One call of a fan-out failed. `permanent`: sending it again would not help. `retry_after_s`: the delay that the service asked for.

    `elapsed_s`: seconds that the call took, with the wait for its turn. None if it failed for good in an earlier attempt.

    `paused`: the call was not sent, because its host is paused for all jobs. No attempt is counted for this.
    """

    def __init__(
        self,
        name: str,
        reason: str,
        *,
        permanent: bool,
        elapsed_s: float | None = None,
        retry_after_s: float | None = None,
        paused: bool = False,
    ) -> None:
        how = "permanent" if permanent else "temporary"
        when = "in an earlier attempt" if elapsed_s is None else f"after {elapsed_s:.3f} s"
        super().__init__(f"{name}: {reason} ({how}, {when})")
        self.name = name
        self.reason = reason
        self.permanent = permanent
        self.elapsed_s = elapsed_s
        self.retry_after_s = retry_after_s
        self.paused = paused


MAX_SHOWN_CALLS = 100


class FanOutError(TrioworkersError, ExceptionGroup[CallFailed]):
    """Some calls of a fan-out failed. It is raised at the end of the block, when all calls have ended. It has one `CallFailed` for each failed call.

    Don't catch it: then the retry sends only the calls whose failure is temporary. If all failures are permanent, the job is buried.
    """

    def __new__(cls, failures: list[CallFailed], total: int) -> Self:
        """A group of `failures`, out of `total` calls."""
        self = super().__new__(cls, f"{len(failures)} of {total} calls failed", failures)
        self.total = total
        return self

    total: int

    def __init__(self, failures: list[CallFailed], total: int) -> None:
        pass  # the group is made in __new__

    def derive(self, excs: Any) -> Any:
        """The group's kind for a part of it (for `except*` and `split`)."""
        return FanOutError(list(excs), self.total)

    def __str__(self) -> str:
        lines = [f"{len(self.exceptions)} of {self.total} calls failed"]
        lines += [f"  {failure}" for failure in self.exceptions[:MAX_SHOWN_CALLS]]
        if len(self.exceptions) > MAX_SHOWN_CALLS:
            lines.append(f"  … and {len(self.exceptions) - MAX_SHOWN_CALLS} more")
        return "\n".join(lines)
