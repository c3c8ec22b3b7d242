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
        *(
            "tw:inprogress",
            "hash",
            "The in-progress lists that may hold jobs, each with its worker, queue and dialect.",
        ),
        *("claim, heartbeat, fetch", "deregistration of the worker, or the worker that reclaims the list", True),
    ),
    Key(
        *(
            "tw:lease:PROCESS",
            "string",
            "The worker that has this process id. It is gone when the worker gave no sign of life for the time of a lease.",
        ),
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
            "tw:fetched:PROCESS QUEUE",
            "string",
            "The last fetch of large payloads from a queue, and what it has moved.",
        ),
        *("fetch", "the fetch, when it has read them; expiry (as the lease)", True),
    ),
    Key(
        *(
            "tw:crashes",
            "hash",
            "By jid, how many workers died while the job ran. 0: a worker died while it ran, but other jobs ran too.",
        ),
        *("reclaim; a worker that ends because of a job", "settle, burial; expiry (3 days after the last crash)", True),
    ),
    Key(
        *(
            "tw:suspects:PROCESS",
            "hash",
            "By jid, the suspects that a worker has started, and whether each runs alone; and whether its end is charged already.",
        ),
        *("a worker, before it starts one, and when it ends because of a job", "settle, deregistration, reclaim", True),
    ),
    Key(
        *("tw:called:PROCESS", "string", "The last call by which a worker put back the jobs of its own lists."),
        *("put back, reclaim of its own", "expiry (an hour)", True),
    ),
    Key(
        *(
            "tw:outage",
            "string",
            "Redis was away a moment ago. While this key exists, no worker is taken for dead.",
        ),
        *("the first heartbeat after an outage", "expiry (as long as the outage was; five minutes at most)", True),
    ),
    Key(
        *(
            "tw:drained:PROCESS",
            "set",
            "The in-progress lists of a dead worker that were emptied, and the oldest job that lay in each afterwards.",
        ),
        *("reclaim", "a worker with that process id; expiry (two hours)", True),
    ),
    Key(*("tw:paused:classes", "set", "The classes whose jobs are held.", "`pause --class`", "`resume --class`", True)),
    Key(
        *("tw:control:PROCESS", "list", "Control messages to a running worker."),
        *("`cancel`, `ps --tree`, `show`", "the worker; expiry (a minute)", True),
    ),
    Key(
        *("tw:reply:TOKEN", "string", "A worker's reply to a control message."),
        *("the worker", "the program that sent the message; expiry (a minute)", True),
    ),
    Key(
        *("tw:restored:TOKEN", "string", "A mark that this group of an export was put back into its queue."),
        *("`import`", "expiry (a week)", True),
    ),
    Key(
        *("tw:reported:PROCESS", "string", "A worker's last report for Sidekiq's metrics page."),
        *("a worker that reports", "expiry (an hour)", True),
    ),
    Key(
        *("tw:sent:TOKEN", "string", "The answer to the call of a client with this token."),
        *("`enqueue` with a token", "expiry (2 minutes)", True),
    ),
    Key(
        *("tw:limits", "hash", "The fleet limits: how many jobs at once, how often, who declared it and when."),
        *("a worker that declares them", "upkeep, when no live worker declares the limit", True),
    ),
    Key(
        *("tw:overrides", "hash", "Limits that people have changed. They count instead of what the code says."),
        *("`limits set`, `limits close`", "`limits reset`, `limits open`", True),
    ),
    Key(
        *("tw:gate:LIMIT", "string", "For a limit: when the next job may start, and until when the limit is closed."),
        *("admission, wake, `RateLimited`", "expiry (a minute after both times have passed)", True),
    ),
    Key(
        *(
            "tw:patient:LIMIT",
            "string",
            "A job that has waited long keeps a permit of this limit while it waits for another limit. This is that job.",
        ),
        *("wake", "expiry (a tenth of the time that the job has waited)", True),
    ),
    Key(
        *("tw:permits:LIMIT", "set", "The attempts that run under a limit."),
        *("admission", "the departure of the attempt"),
    ),
    Key(
        *(
            "tw:reserved:LIMIT",
            "sorted set",
            "Permits that are kept for the jobs that are next, ordered by when that ends.",
        ),
        *("stop, put back, reclaim, wake", "admission of the job; 30 s", True),
    ),
    Key(
        *("tw:lists:LIMIT", "set", "For a limit of a queue: the in-progress lists of the workers that fetch from it."),
        *("fetch", "the fetch of another worker, when the list is empty", True),
    ),
    Key(
        *("tw:waiting:LIMIT", "sorted set", "The jobs that wait at a limit, ordered by when they came."),
        *("admission", "the step that wakes, moves or expires the job"),
    ),
    Key(
        *(
            "tw:parked_jobs",
            "hash",
            "For each parked job, its jid and what it waits for. The names are the scores of `tw:parked`.",
        ),
        *("admission", "the step that wakes, moves or expires the job"),
    ),
    Key(
        *("tw:expiring", "sorted set", "The parked jobs that expire or have a deadline, ordered by when that is."),
        *("admission", "the step that wakes, moves or expires the job"),
    ),
    Key(
        *("tw:waits", "sorted set", "The limits at which jobs wait, ordered by when upkeep looks at them next."),
        *("admission, upkeep", "the step that wakes the last job"),
    ),
    Key(
        *("tw:passed", "set", "Paused queues with parked jobs that would be next if their queue were not paused."),
        *("the step that passes over them", "upkeep, once the queue is resumed"),
    ),
    Key(
        *("tw:passed:QUEUE", "sorted set", "The jobs of a paused queue that would be next, ordered by when they came."),
        *("the step that passes over them", "upkeep, once the queue is resumed"),
    ),
    Key(
        *("tw:parked", "sorted set", "Payloads that wait for a permit, ordered by when they were parked."),
        *("admission", "the step that wakes, moves or expires the job"),
    ),
    Key(
        *("tw:holds:PROCESS QUEUE", "hash", "The permits that the jobs of an in-progress list hold."),
        *("admission", "the departure of each job; the rest with its list", True),
    ),
    Key(
        *("tw:unique", "hash", "The locks of unique jobs: which job holds each, since when, and which job follows it."),
        *("enqueue, settle, admission", "every exit of the job"),
    ),
    Key(
        *(
            "tw:next",
            "sorted set",
            "Payloads that will take over the lock of another job, ordered by when they were sent.",
        ),
        *("enqueue, settle, admission", "admission, the exit of the job that has the lock; operators"),
    ),
    Key(
        *(
            "tw:throttle:LOCK",
            "string",
            "The throttled job that was sent. While this key exists, no other one is sent.",
        ),
        *("enqueue, settle, admission", "expiry (`every`); `unique release`", True),
    ),
    Key(
        *(
            "tw:history:HOUR",
            "hash",
            "For each minute, how many jobs waited in all queues, and how long the next one had waited.",
        ),
        *("a worker, once a minute", "expiry (76 hours)", True),
    ),
    Key(
        *("tw:history:HOUR:queues", "hash", "The same for each queue, for 20 queues at most."),
        *("a worker, once a minute", "expiry (76 hours)", True),
    ),
    Key(
        *("tw:searching", "string", "The worker that searches for locks whose jobs other programs have deleted."),
        *("a worker, where locks are held", "expiry (three minutes)", True),
    ),
    Key(
        *(
            "tw:claimed:PROCESS QUEUE",
            "string",
            "The last time that the locks of a queue's jobs were checked, and the result.",
        ),
        *("admission", "deregistration; expiry (a day)", True),
    ),
    Key(
        *(
            "tw:cron",
            "sorted set",
            "The entries of periodic jobs, ordered by their next tick. `inf`: the entry is paused or broken, or has no next tick.",
        ),
        *(
            "a worker that declares them, `Client.periodic`, `cron`",
            "`cron delete`; for entries of code see `tw:cron:ENTRY`",
            True,
        ),
    ),
    Key(
        *(
            "tw:cron:ENTRY",
            "hash",
            "A periodic job: what it sends and when, who declared it, and whether it is paused.",
        ),
        *(
            "a worker that declares it, `Client.periodic`, `cron`",
            "`cron delete`; an entry of code: when no live process has declared it for 10 minutes",
            True,
        ),
    ),
    Key(
        *("tw:runs:ENTRY", "hash", "The last 20 runs of a periodic job, by jid: tick, when it was sent, how it ended."),
        *("the worker that takes the tick; every exit of the job", "with the entry", True),
    ),
    Key(
        *(
            "tw:cron_news",
            "string",
            "Tells workers that a periodic job is due sooner than they know. It exists for ten seconds.",
        ),
        *("declaring, resuming, `Client.periodic`, `cron`", "expiry", True),
    ),
    Key(
        *("tw:cron_declared", "hash", "For each schedule, when a process that declares it last gave a sign of life."),
        *(
            "heartbeat of a worker with periodic jobs",
            "any worker with periodic jobs, after 10 minutes without a heartbeat",
            True,
        ),
    ),
    Key(
        *("tw:cron_names:SCHEDULE", "set", "The entries that a process declares."),
        *("a worker with periodic jobs", "any worker with periodic jobs, after 10 minutes without a heartbeat", True),
    ),
    Key(
        *("tw:repairs", "list", "Effects that could not be written with their outcomes."),
        *("settle and all other exits", "upkeep", True),
    ),
    Key(
        *("tw:unread", "list", "The beginning and the end of payloads that were too large to read and were buried."),
        *("fetch", "upkeep, which gives back what they held", True),
    ),
    Key(
        *("tw:batches", "sorted set", "The ids of batches, ordered by when they last changed."),
        *("the client or job that sends the batch", "`batches`, once a batch is forgotten", True),
    ),
    Key(
        *("tw:batch:ID", "hash", "A batch: its callbacks, and how many of its members have ended in which way."),
        *("the client or job that sends the batch", "expiry (a day after its end; 180 days with dead members)", True),
    ),
    Key(
        *("tw:batch:ID:jids", "set", "Members of a batch that have not ended."),
        *("the client or job that sends the members", "every exit of the member", True),
    ),
    Key(
        *("tw:batch:ID:dead", "set", "Members of a batch that are dead."),
        *("every burial of a member", "the retry or deletion of the member; expiry (180 days)", True),
    ),
    Key(
        *("tw:batch:ID:graph", "hash", "Which members of a batch wait for which others."),
        *("the client or job that sends the batch", "the ends of members; expiry, together with the batch", True),
    ),
    Key(
        *("tw:batch:ID:results", "hash", "What the members of a batch returned, for members that have a name."),
        *("the end of the member", "expiry, together with the batch", True),
    ),
    Key(
        *("tw:cancelled", "set", "The ids of batches that are cancelled and have not ended."),
        *("the cancellation of a batch", "the end of its last member", True),
    ),
    Key(
        *("tw:moving", "list", "Work that follows from the end of a job and was too much for one step."),
        *("every exit of a job", "upkeep, a page at a time"),
    ),
    Key(
        *(
            "tw:successors",
            "sorted set",
            "Payloads that wait for other jobs of their batch, ordered by when they were sent.",
        ),
        *("the client or job that sends the batch", "the end of the last job that they wait for; operators"),
    ),
    Key(
        *("tw:steps:JID", "hash", "What the steps of a job returned, by name, if its payload has no room for it."),
        *(
            "checkpoint, retry, requeue, import",
            "every exit of the job; expiry (180 days) if the job is dead or was imported",
            True,
        ),
    ),
    Key(
        *("tw:result:JID", "string", "How a job ended, and what it returned, if its class keeps results."),
        *("every exit of the job", "expiry (`keep_result`)", True),
    ),
    Key(
        *("tw:progress:JID", "string", "How far a job has come, as it says itself."),
        *("a running job (`ctx.progress`), its end", "expiry (a day; half an hour after its end)", True),
    ),
    Key(
        *("tw:log:JID", "string", "The last log lines of a job's last attempt, if its class keeps them (`keep_log`)."),
        *("the end of an attempt", "expiry (a week; half an hour after a good end)", True),
    ),
    Key(
        *("tw:finished:CLASS", "list", "How the last jobs of a class ended, the newest first."),
        *(
            "the end of a job that a worker of ours had (`keep_finished`)",
            "the next entries, when the list is full; expiry (30 days)",
            True,
        ),
    ),
    Key(
        *("tw:finished", "set", "The classes that have a list `tw:finished:CLASS`."),
        *("the same as for `tw:finished:CLASS`", "`trioworkers finished`", True),
    ),
    Key(
        *(
            "tw:outbox:SHARD",
            "list",
            "Jobs that jobs of this shard enqueued into another shard, packed, in their order.",
        ),
        *("settle", "the worker that brings them there", False),
    ),
    Key(
        *("tw:outboxes", "set", "The shards whose outbox here is not empty."),
        *("settle", "the worker that brings the last entry", False),
    ),
    Key(
        *(
            "tw:outbox_numbers",
            "hash",
            "For each outbox, how its entries are numbered, and how many were brought to their shard.",
        ),
        *("the worker that brings entries to their shard", "nobody: it has one entry for each shard", True),
    ),
    Key(
        *(
            "tw:received",
            "hash",
            "For each outbox of another shard, the number and the id of the last entry that arrived.",
        ),
        *("the worker that brings entries here", "nobody: it has one entry for each outbox", True),
    ),
    Key(
        *("tw:task:JID", "string", "The state of a Django task: its arguments, times and failures."),
        *(
            "`TasksBackend`, and its worker at the begin and end of an attempt",
            "expiry (`keep_results`; before the end a week more)",
            True,
        ),
    ),
    Key(
        *(
            "tw:retry",
            "sorted set",
            "Resque only, in its namespace: failed payloads, ordered by when they are tried again.",
        ),
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
