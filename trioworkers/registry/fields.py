"""Our fields in payloads and records of other people's formats (`tw_…`), each once. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """One field of ours in other people's formats."""

    name: str
    where: str
    what: str
    written_by: str
    let_go_by: str
    since: str = "0.1"


FIELDS = (
    Field(
        *("tw_done", "payload", "The names of fan-out calls that have succeeded. They are not made again."),
        *("retry, checkpoint", "the job's end"),
    ),
    Field(
        *("tw_failed", "payload", "The fan-out calls that failed for good, with the reasons."),
        *("retry, checkpoint", "burial; the job's end"),
    ),
    Field(
        *(
            "tw_done_packed",
            "payload",
            "The same as `tw_done`, if there is no room for names: their digests, in base64.",
        ),
        *("retry, checkpoint", "the job's end"),
    ),
    Field(
        *(
            "tw_failed_packed",
            "payload",
            "The same as `tw_failed`, if there is no room for names: their digests, in base64.",
        ),
        *("retry, checkpoint", "burial; the job's end"),
    ),
    Field(
        *("tw_held", "payload", "True if the job lies in the schedule set only because its class is paused."),
        *("a worker, instead of an attempt", "promotion, `resume --class`, operators"),
    ),
    Field(
        *(
            "tw_snoozed",
            "payload",
            "Since when the job has been put off, without an attempt that counts, in epoch seconds.",
        ),
        *("snooze", "the next attempt that counts"),
    ),
    Field(
        *("tw_expires", "payload", "The time after which the job is not started any more, in epoch seconds."),
        *("the client (`expires_in`)", "the job's end"),
    ),
    Field(
        *("tw_deadline", "payload", "The time by which the job must have ended, in epoch seconds."),
        *("the client (`deadline`)", "the job's end"),
    ),
    Field(
        *("tw_keep", "payload", "For how many seconds the result of the job is kept."),
        *("the client (`keep_result`)", "the job's end"),
    ),
    Field(
        *(
            "tw_lock",
            "payload",
            "The lock of a unique job. After a space: until when the job holds it, if not until its end.",
        ),
        *("the client (`unique`); admission, for jobs of others", "the job's end"),
    ),
    Field(
        *("tw_batch", "payload", "The id of the batch that the job is a member of."),
        *("the client or job that sends it (`Batch`)", "the job's end"),
    ),
    Field(
        *("tw_tick", "payload", "The tick of a periodic job for which it was sent: epoch second, zone, entry."),
        *("the worker that takes the tick", "the job's end"),
    ),
    Field(
        *(
            "tw_record",
            "payload",
            "Results of steps and cursors of iterations, and how many results lie in `tw:steps:JID`.",
        ),
        *("retry, requeue, checkpoint", "the job's end"),
    ),
    Field(
        *("tw_bytes", "record in Resque's `failed`", "The bytes of a payload that is not UTF-8, in base64."),
        *("burial", "whoever removes the record"),
    ),
    Field(
        *("tw_zones", "process record", "The release of the time zone data with which ticks are computed."),
        *("heartbeat of a worker that declares periodic jobs", "expiry of the record (a minute)"),
    ),
    Field(
        *("tw_rates", "process record", "Jobs settled per second, by queue."),
        *("heartbeat", "expiry of the record (a minute)"),
    ),
    Field(
        *("tw_busy", "process record", "How many jobs run, by queue."),
        *("heartbeat", "expiry of the record (a minute)"),
    ),
    Field(
        *("tw_parent", "process record", "The parent process that started this one (`run --processes`)."),
        *("heartbeat", "expiry of the record (a minute)"),
    ),
    Field(
        *("tw_hosts", "process record", "The hosts that its jobs call: calls, limits, breakers. 20 hosts at most."),
        *("heartbeat, once a job has called one", "expiry of the record (a minute)"),
    ),
    Field(
        *("tw_classes", "process record", "The classes that have a handler there, by queue."),
        *("heartbeat", "expiry of the record (a minute)"),
    ),
)
