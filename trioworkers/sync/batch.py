"""A batch to which a program that blocks adds members one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from trioworkers.errors import BrokerError
from trioworkers.jobs.batch import Members, check_name, members_of, not_cancelled, waited_for
from trioworkers.jobs.exchanges import Exchange, Exchanges
from trioworkers.sending import met_by
from trioworkers.wire.job import Job, new_jid
from trioworkers.wire.membership import OnFailure, Opening


class OpenBatch:
    """A batch to which members are added while some of them may run already: any number, sent as they come. See `Client.batch`."""

    def __init__(self, do: Callable[[Callable[[Exchanges], Exchange[Any]]], Any], opening: Opening) -> None:
        self.id = new_jid()
        self._do = do
        self._opening = opening
        self._names: set[str] = set()
        self._is_open = False

    def __repr__(self) -> str:
        return f"<OpenBatch {self.id} {self._opening.description!r}>"

    def add(self, *jobs: Job, name: str = "", after: Iterable[Members] = (), on_failure: OnFailure = "wait") -> Members:
        """Send members; returns what other members can wait for. The options are as those of `Batch.add`; whoever is waited for may have ended by then.

        Raises as `Client.enqueue` does.
        """
        if not self._is_open:
            raise RuntimeError("members are added inside the block: with client.batch() as batch")
        members = members_of(jobs, self.id, waited_for(self.id, after, on_failure), on_failure, name)
        if name:
            check_name(name, len(jobs), self._names)
            self._names.add(name)
        return Members.of(self.id, members, met_by(self._do(lambda its: its.send(members))))

    def __enter__(self) -> Self:
        self._do(lambda its: its.open_batch(self.id, self._opening))
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if error is None:
            self._do(lambda its: its.seal_batch(self.id))
        elif not isinstance(error, GeneratorExit):
            try:
                self._do(lambda its: its.cancel_batch(self.id))
            except BrokerError as second:
                error.add_note(not_cancelled(self.id, second))
