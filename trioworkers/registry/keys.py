"""Our keys in Redis (`tw:…`), each once. Pure. What may be said of all is in `__init__`."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Type = Literal["string", "list", "set", "sorted set", "hash"]


class Key(NamedTuple):
    """One kind of key of ours. Capitals in its `name` stand for what differs. It lies behind the namespace of the worker."""

    name: str
    type: Type
    what: str
    written_by: str
    let_go_by: str
    stays: bool = False
    """Whether it may be there when no job waits or runs: it says something of workers, or goes by expiry."""
    since: str = "0.1"

    @property
    def pattern(self) -> str:
        """A regular expression for the keys of this kind, without their namespace."""
        return re.sub(r"[A-Z]+", ".+", re.escape(self.name))


KEYS = (
    Key(
        *("tw:inprogress", "hash", "Each in-progress list that may hold something: its worker, queue and dialect."),
        *("claim, heartbeat, fetch", "deregistration of the worker; else whoever reclaims the list", True),
    ),
    Key(
        *("tw:lease:PROCESS", "string", "Who holds this process id. Gone: no sign of life for a lease."),
        *("claim, heartbeat, fetch, watchdog", "deregistration; expiry (the lease)", True),
    ),
    Key(
        *("tw:settled:PROCESS", "string", "The last group of outcomes that was written, and its result."),
        *("settle, claim", "deregistration; expiry (a day)", True),
    ),
    Key(
        *("tw:admitted:PROCESS QUEUE", "string", "The last admission to a queue with limits, and its result."),
        *("admission", "deregistration; expiry (a day)", True),
    ),
    Key(
        *(
            "tw:crashes",
            "hash",
            "Crash counts: how many workers died under a job, by jid; 0: under it or its neighbours.",
        ),
        *("reclaim; a worker that ends because of a job", "settle, burial; expiry (3 days after the last crash)", True),
    ),
    Key(
        *("tw:suspects:PROCESS", "hash", "The suspects that a worker has started, by jid: together, or alone."),
        *("a worker, before it starts one", "settle, deregistration, reclaim", True),
    ),
    Key(
        *("tw:called:PROCESS", "string", "The last call by which a worker took back what was in its own lists."),
        *("put back, reclaim of its own", "expiry (an hour)", True),
    ),
    Key(
        *(
            "tw:outage",
            "string",
            "Workers are back from an outage; until this is gone, who was missing then isn't taken for dead.",
        ),
        *("the first heartbeat after an outage", "expiry (as long as the outage was; five minutes at most)", True),
    ),
    Key(
        *("tw:drained:PROCESS", "set", "In-progress lists of a dead worker from which all was taken back."),
        *("reclaim", "a worker with that process id; expiry (an hour)", True),
    ),
    Key(*("tw:paused:classes", "set", "The classes whose jobs are held.", "`pause --class`", "`resume --class`", True)),
    Key(
        *("tw:control:PROCESS", "list", "Control messages to a running worker."),
        *("`cancel`, `ps --tree`, `show`", "the worker; expiry (a minute)", True),
    ),
    Key(
        *("tw:reply:TOKEN", "string", "A worker's reply to a control message."),
        *("the worker", "who sent the message; expiry (a minute)", True),
    ),
    Key(
        *("tw:restored:TOKEN", "string", "This group of an export was put back into its queue."),
        *("`import`", "expiry (a week)", True),
    ),
    Key(
        *("tw:reported:PROCESS", "string", "A worker's last report for Sidekiq's metrics page."),
        *("a worker that reports", "expiry (an hour)", True),
    ),
    Key(
        *("tw:sent:TOKEN", "string", "What the call of a client with this token was answered."),
        *("`enqueue` with a token", "expiry (2 minutes)", True),
    ),
    Key(
        *("tw:limits", "hash", "Fleet limits: how many at once, how often, and who declared it so when."),
        *("a worker that declares them", "upkeep, when no live worker does", True),
    ),
    Key(
        *("tw:overrides", "hash", "What people want of limits instead of what the code says."),
        *("`limits set`, `limits close`", "`limits reset`, `limits open`", True),
    ),
    Key(
        *("tw:gate:LIMIT", "string", "When the next start under a limit is due, and until when it is closed."),
        *("admission, wake, `RateLimited`", "expiry (a minute after it says nothing any more)", True),
    ),
    Key(
        *(
            "tw:patient:LIMIT",
            "string",
            "Who keeps a permit of it while it waits for that of another limit, since it has waited long.",
        ),
        *("wake", "expiry: it may be kept for a tenth of that time", True),
    ),
    Key(
        *("tw:permits:LIMIT", "set", "The attempts that run under a limit."),
        *("admission", "the departure of the attempt"),
    ),
    Key(
        *(
            "tw:reserved:LIMIT",
            "sorted set",
            "Permits that are kept for jobs that are next in turn, by when that ends.",
        ),
        *("stop, put back, reclaim, wake", "admission of the job; 30 s", True),
    ),
    Key(
        *("tw:lists:LIMIT", "set", "The in-progress lists of workers that fetch from queues under a limit."),
        *("fetch", "fetch of another, when such a list is empty", True),
    ),
    Key(
        *("tw:waiting:LIMIT", "sorted set", "Who waits at a limit, by the moment at which it came."),
        *("admission", "whoever wakes, moves or expires the job"),
    ),
    Key(
        *("tw:parked_jobs", "hash", "What is to be known of those who wait, by the same moments."),
        *("admission", "whoever wakes, moves or expires the job"),
    ),
    Key(
        *("tw:expiring", "sorted set", "Those of them that expire, by when they do."),
        *("admission", "whoever wakes, moves or expires the job"),
    ),
    Key(
        *("tw:waits", "sorted set", "The limits at which somebody waits, by when upkeep is to look at them."),
        *("admission, upkeep", "whoever wakes the last"),
    ),
    Key(
        *("tw:passed", "set", "Paused queues with parked jobs that would be next but for the pause."),
        *("whoever passes over them", "upkeep, once the queue is resumed"),
    ),
    Key(
        *("tw:passed:QUEUE", "sorted set", "Those jobs of a paused queue, by when they came."),
        *("whoever passes over them", "upkeep, once the queue is resumed"),
    ),
    Key(
        *("tw:parked", "sorted set", "Payloads that wait for a permit, by when they were parked."),
        *("admission", "whoever wakes, moves or expires the job"),
    ),
    Key(
        *("tw:holds:PROCESS QUEUE", "hash", "What the attempts of an in-progress list hold."),
        *("admission", "the departure of each; with its list the rest", True),
    ),
    Key(
        *("tw:unique", "hash", "The locks of unique jobs: which job holds each, since when, and what is to follow it."),
        *("enqueue, settle, admission", "every exit of the job"),
    ),
    Key(
        *("tw:next", "sorted set", "Payloads that are to take over the lock of another job, by when they were sent."),
        *("enqueue, settle, admission", "admission, the exit of the job that has the lock; operators"),
    ),
    Key(
        *("tw:throttle:LOCK", "string", "The throttled job that was sent; until this is gone no other is."),
        *("enqueue, settle, admission", "expiry (`every`); `unique release`", True),
    ),
    Key(
        *("tw:history:HOUR", "hash", "By minute: how many jobs waited in all queues, and for how long the next one."),
        *("a worker, once a minute", "expiry (76 hours)", True),
    ),
    Key(
        *("tw:history:HOUR:queues", "hash", "The same by queue, of 20 at most."),
        *("a worker, once a minute", "expiry (76 hours)", True),
    ),
    Key(
        *("tw:searching", "string", "Which worker began to search for what others deleted."),
        *("a worker, where locks are held", "expiry (three minutes)", True),
    ),
    Key(
        *("tw:claimed:PROCESS QUEUE", "string", "The last time that a queue's jobs were held to their locks."),
        *("admission", "deregistration; expiry (a day)", True),
    ),
    Key(
        *("tw:cron", "sorted set", "The entries of periodic jobs, by their next tick; `inf`: paused, broken, or none."),
        *("a worker that declares them, `Client.periodic`, `cron`", "`cron delete`; for code's see below", True),
    ),
    Key(
        *("tw:cron:ENTRY", "hash", "What a periodic job is, who declared it so and when; whether it is paused."),
        *(
            "a worker that declares it, `Client.periodic`, `cron`",
            "`cron delete`; of code: when no live process has declared it for 10 minutes",
            True,
        ),
    ),
    Key(
        *("tw:runs:ENTRY", "hash", "The last 20 runs of a periodic job, by jid: tick, when it was sent, how it ended."),
        *("whoever takes the tick; every exit of the job", "with the entry", True),
    ),
    Key(
        *(
            "tw:cron_news",
            "string",
            "There for ten seconds after a periodic job became due sooner than workers know.",
        ),
        *("declaring, resuming, `Client.periodic`, `cron`", "expiry", True),
    ),
    Key(
        *("tw:cron_declared", "hash", "When a process that declares these entries was last heard of, by schedule."),
        *("heartbeat of a worker that declares any", "such a worker, after 10 minutes without one", True),
    ),
    Key(
        *("tw:cron_names:SCHEDULE", "set", "The entries that a process declares."),
        *("a worker that declares any", "such a worker, after 10 minutes without one", True),
    ),
    Key(
        *("tw:repairs", "list", "Effects that could not be written with their outcomes."),
        *("settle and all other exits", "upkeep", True),
    ),
    Key(
        *("tw:unread", "list", "Beginning and end of payloads that were buried unread, too large for that."),
        *("fetch", "upkeep, which lets go what they held", True),
    ),
    Key(
        *("tw:batches", "sorted set", "The ids of batches, by when they moved last."),
        *("whoever sends a batch", "`batches`, once a batch is forgotten", True),
    ),
    Key(
        *("tw:batch:ID", "hash", "A batch: its callbacks, how many of its members ended how."),
        *("whoever sends a batch", "expiry (a day after its end; 180 days with dead members)", True),
    ),
    Key(
        *("tw:batch:ID:jids", "set", "Members of a batch that have not ended."),
        *("whoever sends members", "every exit of the member", True),
    ),
    Key(
        *("tw:batch:ID:dead", "set", "Members of a batch that are dead."),
        *("every burial of a member", "whoever retries or deletes the member; expiry (180 days)", True),
    ),
    Key(
        *("tw:batch:ID:graph", "hash", "Which members of a batch wait for which others."),
        *("whoever sends the batch", "the ends of members; expiry, as of the batch", True),
    ),
    Key(
        *("tw:batch:ID:results", "hash", "What the members of a batch that have a name returned."),
        *("the end of the member", "expiry, as of the batch", True),
    ),
    Key(
        *("tw:cancelled", "set", "The ids of batches that are cancelled and not over."),
        *("whoever cancels a batch", "the end of its last member", True),
    ),
    Key(
        *("tw:moving", "list", "What the ends of members have others do, more than there was time for in one step."),
        *("every exit of a member", "upkeep, a page at a time"),
    ),
    Key(
        *("tw:successors", "sorted set", "Payloads that wait for other jobs of their batch, by when they were sent."),
        *("whoever sends the batch", "the end of the last job that they wait for; operators"),
    ),
    Key(
        *("tw:steps:JID", "hash", "What steps of a job returned, by name, where its payload has no room for it."),
        *(
            "checkpoint, retry, requeue, import",
            "every exit of the job; of a dead or an imported one expiry (180 days)",
            True,
        ),
    ),
    Key(
        *("tw:result:JID", "string", "How a job ended that keeps its result, and what it returned."),
        *("every exit of the job", "expiry (`keep_result`)", True),
    ),
    Key(
        *("tw:progress:JID", "string", "How far a job says it is, or was when it ended."),
        *("a running job (`ctx.progress`), its end", "expiry (a day; half an hour after its end)", True),
    ),
    Key(
        *("tw:log:JID", "string", "The last log lines of a job's last attempt, of those that keep them (`keep_log`)."),
        *("the end of an attempt", "expiry (a week; half an hour after a good end)", True),
    ),
    Key(
        *("tw:finished:CLASS", "list", "How the last jobs of a class ended, the newest first."),
        *("the end of a job that a worker of ours had (`keep_finished`)", "its length; expiry (30 days)", True),
    ),
    Key(
        *("tw:finished", "set", "The classes of which it is kept how jobs ended."),
        *("as `tw:finished:CLASS`", "`trioworkers finished`", True),
    ),
    Key(
        *("tw:outbox:SHARD", "list", "What jobs here enqueued into another shard: packed, in their order."),
        *("settle", "whoever takes it there", False),
    ),
    Key(
        *("tw:outboxes", "set", "The shards for which there is something in an outbox."),
        *("settle", "whoever takes the last of it", False),
    ),
    Key(
        *("tw:outbox_numbers", "hash", "How the entries of each outbox are numbered, and how many have gone."),
        *("whoever takes entries to their shard", "nobody: it is as long as there are shards", True),
    ),
    Key(
        *("tw:received", "hash", "By outbox of another shard, the number and id of the last entry that came."),
        *("whoever takes entries here", "nobody: it is as long as there are outboxes", True),
    ),
    Key(
        *("tw:task:JID", "string", "How far a task of Django's is: its arguments, times, failures."),
        *(
            "`TasksBackend`, and its worker at the begin and end of an attempt",
            "expiry (`keep_results`; before the end a week more)",
            True,
        ),
    ),
    Key(
        *("tw:retry", "sorted set", "Resque only, in its namespace: failed payloads by when they are tried again."),
        *("settle", "promotion, operators"),
    ),
    Key(
        *("tw:schedule", "sorted set", "Resque only, in its namespace: payloads that were put off."),
        *("settle", "promotion, operators"),
    ),
)


def may_stay() -> re.Pattern[str]:
    """Our keys that may be there when no job waits or runs."""
    return re.compile("|".join(key.pattern for key in KEYS if key.stays))
