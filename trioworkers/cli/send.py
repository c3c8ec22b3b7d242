"""What `enqueue` does: send the job, print its jid, and tell if it will have to wait."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import trio

from trioworkers.broker.ungrouped import ungrouped
from trioworkers.cli.session import Session, in_session
from trioworkers.cli.shards import app_of, explained_for, names_an_app
from trioworkers.cli.tables import remark, say
from trioworkers.cli.which_redis import which_redis
from trioworkers.errors import TrioworkersError
from trioworkers.jobs.client import Client
from trioworkers.jobs.handler import ANY_CLASS
from trioworkers.printable import as_argument, as_word
from trioworkers.wire.job import Job
from trioworkers.wire.process_records import Process

NAMED = 5


def send(job: Job, delay_s: float | None, redis: str | None, namespace: str | None) -> None:
    """Enqueue or schedule it. Raises BadJob and BrokerError."""
    if redis is not None and names_an_app(redis) and namespace is None:  # of several Redises its client knows which
        app, shard = app_of(redis)
        if shard and app.layout is not None:
            app.layout.check_at(shard, job)
            app = app.at(shard)
        with explained_for(app):
            trio.run(_send, app.client(), job, delay_s)
    else:
        place = which_redis(redis, namespace)
        with place.explained(), ungrouped():
            trio.run(_send, Client(place.url, namespace=place.namespace), job, delay_s)
    say(job.jid)
    is_of_app = names_an_app(redis)
    # Others' workers don't tell what they serve.
    if not is_of_app and os.environ.get("TRIOWORKERS_DIALECT", "sidekiq") == "sidekiq":
        with suppress(TrioworkersError):  # the job is sent, and who may send need not be allowed to look
            in_session(partial(_say_if_it_waits, job), redis, namespace)


async def _send(client: Client, job: Job, delay_s: float | None) -> None:
    async with client:
        await (client.enqueue(job) if delay_s is None else client.schedule(delay_s, job))


async def _say_if_it_waits(job: Job, session: Session) -> None:
    processes = await session.inspector.processes()
    paused = await session.fleet.paused()
    served = sorted({name for process in processes if not process.quiet for name in process.queues})
    queue, job_class = as_word(job.queue), as_word(job.job_class)
    if job.queue not in served:
        others = ", ".join(map(as_word, served[:NAMED])) + (", …" if len(served) > NAMED else "")
        remark(f"no worker serves queue {queue} now, so the job waits; served: {others or 'none'}")
    elif (known := _known_classes(job.queue, processes)) and job.job_class not in known and ANY_CLASS not in known:
        found = ", ".join(map(as_word, sorted(known)[:NAMED])) + (", …" if len(known) > NAMED else "")
        remark(f"no worker of queue {queue} has a handler for class {job_class}, so the job will fail; known: {found}")
    if job.queue in paused.queues:
        remark(f"queue {queue} is paused, so the job waits for: trioworkers resume {as_argument(job.queue)}")
    if job.job_class in paused.classes:
        remark(f"class {job_class} is paused, so the job waits for: trioworkers resume --class {job_class}")


def _known_classes(queue: str, processes: Sequence[Process]) -> frozenset[str]:
    """The classes for which some worker of the queue has a handler; none if one of them doesn't tell."""
    told = [process.classes.get(queue) for process in processes if not process.quiet and queue in process.queues]
    return frozenset().union(*(classes for classes in told if classes)) if all(told) else frozenset()
