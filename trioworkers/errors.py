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
    """An app, a queue, a handler or an option makes no sense. Raised at start; the message says where. Mend the program."""


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
    """No handler takes this class on this queue. The job is retried like any failure: a later deploy may know the class.

    `hopeless`: the app says that such jobs go to the dead set at once. Either way they are kept, unless they say `dead: false`.
    """

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


class CPUWorkerDied(TrioworkersError):
    """The process in which `Context.run_cpu` computed ended unexpectedly. Retried like any failure."""


class WorkerDied(TrioworkersError):
    """Workers died while they ran a job, three times; it is in the dead set. Given to `@app.on_death`; raised nowhere."""


class Steer(TrioworkersError):
    """Base of what a handler raises to say itself how its attempt ended."""


class RetryAfter(Steer):
    """Raise in a handler: try again in `delay_s` seconds. Counts as a failed attempt, within the job's limit of retries."""

    def __init__(self, delay_s: float, reason: str = "") -> None:
        if is_moment(delay_s) and delay_s < float("inf"):
            raise ValueError(f"RetryAfter takes seconds from now, not {said_of_moment(delay_s)}")
        super().__init__(reason or f"asked to be retried in {delay_s:g} s")
        if not 0 <= delay_s < float("inf"):
            raise ValueError(f"RetryAfter takes seconds from 0 on, not {delay_s!r}")
        self.delay_s = float(delay_s)


class RateLimited(Steer):
    """Raise in a handler: who is called wants no more for `retry_after` seconds (a day at most).

    The limits that the job is under are closed for so long, for the whole fleet, and the job is the first when they open. No attempt is counted, for up to a
    day in all. Of a job without a limit only the job itself waits.
    """

    def __init__(self, retry_after: float, reason: str = "") -> None:
        if isinstance(retry_after, bool) or not isinstance(retry_after, int | float) or not 0 < retry_after <= 86_400:
            raise ValueError(f"RateLimited takes seconds above 0 and up to a day, not {retry_after!r:.80}")
        super().__init__(reason or f"asked to leave off for {retry_after:g} s")
        self.retry_after_s = float(retry_after)


class Bury(Steer):
    """Raise in a handler: failed for good; the job goes to the dead set with this reason."""


class RecordsLost(Bury):
    """Results of a job's steps that lay beside its payload are gone (deleted, or left behind by an export), so nobody knows what is done."""


class Discard(Steer):
    """Raise in a handler: failed for good, and not worth keeping; the job is forgotten, only counted."""


class BrokerError(TrioworkersError):
    """Base of what goes wrong between us and Redis."""


class Unavailable(BrokerError):
    """Redis can't be reached or can't serve now (down, loading, read-only, full, disk trouble). Trying later may succeed.

    A call that raises it may have been executed all the same: the reply may be what was lost.
    """


class Unreachable(Unavailable):
    """There is no connection to Redis; the text says why, `advice` what to do about it."""

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(text, advice)
        self.advice = advice

    def __str__(self) -> str:
        return str(self.args[0])


class Refused(BrokerError):
    """Redis answered that it won't: wrong password, no permission, wrong type of key. Trying again won't help by itself."""


class DuplicateJob(Refused):
    """A job was not sent, nor any that was sent with it, since another one has its lock and it says `on_conflict="raise"`. `duplicate_of`: that one's jid."""

    def __init__(self, message: str, duplicate_of: str = "") -> None:
        super().__init__(message, duplicate_of)
        self.duplicate_of = duplicate_of

    def __str__(self) -> str:
        return str(self.args[0])


class WrongLogin(Refused):
    """Redis doesn't know our user or password, or wants one and got none."""


class SharedQueue(Refused):
    """The app is strict, and another kind of worker fetches from one of its queues.

    Raised at start; later, when the worker has stopped for it. Separate the queues, stop the other, or don't be strict.
    """


class Superseded(BrokerError):
    """Another live worker holds our process id. Raised at start, or later by one that was believed dead."""


class BadResult(TrioworkersError):
    """A handler returned what can't be kept as its job's result: no JSON, or more than 64 KiB. The attempt has failed."""


class NotRecorded(TrioworkersError):
    """What a step or an iteration did is done, but Redis did not take the record of it. The attempt has failed; its next one gets the record, if that can be written."""


class DeadlinePassed(TrioworkersError):
    """A job was not over by its deadline. It is not tried again."""


class JobFailed(TrioworkersError):
    """`Client.result` raises it for a job that is dead: it failed, and is not tried again. `error_class`, `message`: its last failure."""

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
    """The call was not sent: its host failed so often in a row that it is paused for everyone. `retry_after`: seconds to wait.

    A job that fails with nothing else comes back then and is charged no attempt.
    """

    def __init__(self, host: str, retry_after: float) -> None:
        super().__init__(f"{host} failed too often in a row and is paused for {retry_after:.1f} s")
        self.host = host
        self.retry_after = retry_after


class ResponseTooLarge(TrioworkersError):
    """An answer is longer than `Http.max_response_bytes`. Permanent in a fan-out."""

    permanent = True


class PrivateAddress(TrioworkersError):
    """The host of a URL has an address that isn't public, and `Http(private_addresses=False)`. Permanent in a fan-out."""

    permanent = True


class CallFailed(TrioworkersError):
    """One call of a fan-out failed. `permanent`: sending it again would not help. `retry_after_s`: what the service asked for.

    `elapsed_s`: seconds that the call took, waiting for its turn included; None if it failed for good in an earlier attempt.

    `paused`: the call was never sent, its host being paused for everyone; that costs the job no attempt.
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
    """Some calls of a fan-out failed; raised at the end of its block, when all have ended. One `CallFailed` for each.

    Let it pass, and the retry sends only what failed for a moment; with only permanent failures the job is buried.
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
