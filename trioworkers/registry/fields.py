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
        *("tw_done", "payload", "Names of fan-out calls that need not be made again."),
        *("retry, checkpoint", "the job's end"),
    ),
    Field(
        *("tw_failed", "payload", "Fan-out calls that failed for good, with the reason."),
        *("retry, checkpoint", "burial; the job's end"),
    ),
    Field(
        *("tw_done_packed", "payload", "The same, of names for which there is no room: digests, in base64."),
        *("retry, checkpoint", "the job's end"),
    ),
    Field(
        *("tw_failed_packed", "payload", "Likewise, of calls that failed for good."),
        *("retry, checkpoint", "burial; the job's end"),
    ),
    Field(
        *("tw_held", "payload", "True while it lies in the schedule set only because its class is paused."),
        *("a worker, instead of an attempt", "promotion, `resume --class`, operators"),
    ),
    Field(
        *(
            "tw_snoozed",
            "payload",
            "Since when it is put off again and again without an attempt that counts, epoch seconds.",
        ),
        *("snooze", "the next attempt that counts"),
    ),
    Field(
        *("tw_expires", "payload", "From when on nobody wants the job that has not begun, epoch seconds."),
        *("the client (`expires_in`)", "the job's end"),
    ),
    Field(
        *("tw_deadline", "payload", "When the job must be over, epoch seconds."),
        *("the client (`deadline`)", "the job's end"),
    ),
    Field(
        *("tw_keep", "payload", "For how many seconds it is kept how the job ended."),
        *("the client (`keep_result`)", "the job's end"),
    ),
    Field(
        *("tw_lock", "payload", "The lock of a unique job; behind a space until what, if that isn't its end."),
        *("the client (`unique`); admission, for jobs of others", "the job's end"),
    ),
    Field(
        *("tw_batch", "payload", "The id of the batch whose member the job is."),
        *("whoever sends it (`Batch`)", "the job's end"),
    ),
    Field(
        *("tw_tick", "payload", "Which tick of which periodic job it was sent for: epoch second, zone, entry."),
        *("whoever takes the tick", "the job's end"),
    ),
    Field(
        *("tw_record", "payload", "Results of steps, cursors of iterations; how many results lie in `tw:steps:JID`."),
        *("retry, requeue, checkpoint", "the job's end"),
    ),
    Field(
        *("tw_bytes", "record in Resque's `failed`", "The bytes, in base64, of a payload that is no UTF-8."),
        *("burial", "whoever takes the record away"),
    ),
    Field(
        *("tw_zones", "process record", "The release of the time zone data by which ticks are computed."),
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
        *("tw_parent", "process record", "The process that has started this one and others (`run --processes`)."),
        *("heartbeat", "expiry of the record (a minute)"),
    ),
    Field(
        *("tw_hosts", "process record", "How the hosts do that its jobs call: calls, limits, breakers. 20 at most."),
        *("heartbeat, once a job has called one", "expiry of the record (a minute)"),
    ),
    Field(
        *("tw_classes", "process record", "The classes that have a handler there, by queue."),
        *("heartbeat", "expiry of the record (a minute)"),
    ),
)
