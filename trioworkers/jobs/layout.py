"""Layout: in which shard each queue of an App lies, and each job that is sent. The same for its workers and all its clients.

A job goes by what must stay together: its lock, the limit that it is under; else by its jid. What can't stay together, as its queues lie in different shards, is
refused before anything runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import attrs

from trioworkers.errors import BadArguments, BadJob, ConfigurationError
from trioworkers.jobs.handler import AnyHandler
from trioworkers.jobs.limits import FleetLimit
from trioworkers.shards import OWN, called, check_apart, chosen
from trioworkers.wire.argument_key import argument_key
from trioworkers.wire.job import Job

if TYPE_CHECKING:
    from trioworkers.jobs.declared import Declared


class _Finds(Protocol):
    """What a layout needs of an App."""

    @property
    def handlers(self) -> Iterable[AnyHandler]:
        """All of them."""

    def find(self, queue: str, job_class: str) -> AnyHandler | None:
        """The handler for a class on a queue."""


@attrs.frozen
class Layout:
    """Where things lie. `names`: of all shards, the App's own Redis first where it is one; `queues`: the shards of each queue that says so."""

    names: tuple[str, ...]
    queues: Mapping[str, tuple[str, ...]]
    _app: _Finds = attrs.field(repr=False, eq=False)

    def of(self, queue: str) -> tuple[str, ...]:
        """The shards of a queue. Raises BadJob for one that says nothing, if the App has no Redis of its own."""
        there = self.queues.get(queue)
        if there is not None:
            return there
        if OWN not in self.names:
            raise BadJob(
                f"queue {queue!r} is in no shard, and the App has no Redis of its own: app.queue({queue!r}, shards=[…])"
            )
        return (OWN,)

    def place(self, job: Job, near: str | None = None) -> str:
        """The shard into which a job is sent; `near`, if it may be there and belongs to no other. Raises BadJob."""
        there = self.of(job.queue)
        if len(there) == 1:
            return there[0]
        key = self._key(job)
        return near if near is not None and near in there and key == job.jid else chosen(there, key)

    def check_at(self, where: str, job: Job) -> None:
        """Raise BadJob if a job may not be sent into this shard."""
        there = self.of(job.queue)
        if where not in there:
            raise BadJob(f"queue {job.queue!r} lies in {_listed(there)}, not in {called(where)}")
        home = self.place(job, where)
        if home != where:
            raise BadJob(
                f"{job.job_class}: jobs that share its lock or limit lie in {called(home)}, so it can't be sent into {called(where)}"
            )

    def _key(self, job: Job) -> str:
        """What stays together has the same."""
        handler = self._app.find(job.queue, job.job_class)
        try:
            for limit in () if handler is None else handler.limits:
                return f"limit:{limit.name_for(job)}"
            if job.lock is not None:
                return job.lock.key
            if handler is not None and handler.unique is not None:  # it takes its lock before it starts
                return handler.unique.lock_of(job).key
        except BadArguments:  # its worker says what is wrong with it, wherever that is
            pass
        return job.jid

    def check_limit(self, here: str, job: Job, limit: str | FleetLimit, key: object) -> None:
        """Raise ConfigurationError if a limit around part of a job that runs here lies in another shard."""
        name = limit if isinstance(limit, str) else limit.name
        declared = (each.queue for each in self._app.handlers if name in [its.limit.name for its in each.limits])
        there = self.of(next(declared, job.queue))
        try:
            home = chosen(there, f"limit:{name}" if key is None else f"limit:{name}:{argument_key(key)}")
        except ValueError:  # whoever is about to hold it says what is wrong with it
            return
        if home != here:
            raise ConfigurationError(
                f"limit {name!r:.80} lies in {called(home)}, and this job runs in {called(here)}: give the handler limit=FleetLimit({name!r:.80}, …), "
                "so that its jobs go there, or its queue one shard"
            )

    def together(self, jobs: Iterable[Job], where: str | None = None) -> tuple[str, ...]:
        """The shards in which all these jobs can lie, with `where` those of them that is this one. Raises BadJob if there is none."""
        common: tuple[str, ...] = self.names
        for job in jobs:
            there = self.of(job.queue) if job.lock is None else (self.place(job),)  # where all look for its lock
            found = tuple(name for name in common if name in there and where in (None, name))
            if not found:
                wanted = " and ".join(map(called, common if where is None else (where,)))
                raise BadJob(
                    f"{job.job_class}: a batch lies in one shard, with all its jobs and callbacks; this one's is to be in {wanted}, "
                    f"and {f'queue {job.queue!r}' if job.lock is None else 'its lock'} is in {' and '.join(map(called, there))}"
                )
            common = found
        return common


def check_together(
    queues: Mapping[str, tuple[str, ...]], handlers: Iterable[AnyHandler], queue_limits: Mapping[str, FleetLimit]
) -> None:
    """Raise ConfigurationError for a lock or a limit that would lie in several shards. `queues`: the shards of each."""
    _check_queue_limits(queues, queue_limits)
    limits: dict[str, AnyHandler] = {}
    locks: dict[str, AnyHandler] = {}
    for handler in handlers:
        _check_handler(handler, queues[handler.queue])
        for what, known, names in (
            ("limit", limits, [each.limit.name for each in handler.limits]),
            ("unique class", locks, [] if handler.unique is None else [handler.job_class]),
        ):
            for name in names:
                other = known.setdefault(name, handler)
                if set(queues[other.queue]) != set(queues[handler.queue]):
                    raise ConfigurationError(
                        f"{handler.where}: {what} {name!r} is also in {other.where}, whose queue lies in {_listed(queues[other.queue])}, "
                        f"and this one's in {_listed(queues[handler.queue])}: give both queues the same shards, or the {what} another name"
                    )


def _check_queue_limits(queues: Mapping[str, tuple[str, ...]], limits: Mapping[str, FleetLimit]) -> None:
    known: dict[str, str] = {}
    for queue, limit in limits.items():
        if len(queues[queue]) > 1:
            raise ConfigurationError(
                f"queue {queue!r}: its limit would lie in {_listed(queues[queue])}; give the queue one shard, or the limit to its handlers"
            )
        other = known.setdefault(limit.name, queue)
        if queues[other] != queues[queue]:
            raise ConfigurationError(
                f"queue {queue!r}: limit {limit.name!r} is also queue {other!r}'s, which lies in another shard; give both the same, or the limits two names"
            )


def _check_handler(handler: AnyHandler, shards: Sequence[str]) -> None:
    if len(shards) == 1:
        return
    held: list[str] = [f"limit {each.limit.name!r}" for each in handler.limits]
    # All jobs under a limit that goes by no argument are in one shard, with their locks.
    apart = len(handler.limits) == 1 and handler.limits[0].limit.by is not None
    if handler.unique is not None and (apart or len(handler.limits) > 1):
        held.append("its unique=")
    if len(held) > 1:
        raise ConfigurationError(
            f"{handler.where}: {' and '.join(held)} would send one job to different shards; give the queue one shard, or the handler one of them"
        )


def _listed(shards: Sequence[str]) -> str:
    return " and ".join(map(called, shards))


def layout_of(app: Declared) -> Layout:
    """Where the queues of an App lie that has shards. Raises ConfigurationError, see `check_together`, and for two shards that are one place."""
    there = {
        *app.queues,
        *(handler.queue for handler in app.handlers),
        *app.queue_limits,
    }  # a worker may serve only some
    queues = {queue: app.queue_shards.get(queue, (OWN,)) for queue in there} | app.queue_shards
    has_own = app.redis_named is not None or any(OWN in there for there in queues.values())
    names = (*((OWN,) if has_own else ()), *app.shards)
    settings = {name: app.settings_at(name) for name in names}
    check_apart({name: (each.redis_url, each.namespace) for name, each in settings.items()})
    check_together(queues, app.handlers, app.queue_limits)
    return Layout(names, queues, app)
