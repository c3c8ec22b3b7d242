"""Where payloads lie, one line each: everything that lists, finds, counts, moves, exports or completes reads this table.

A place more is one line here (and its key in `keys.py`): commands and their help, `doctor`, the fake and the model know it from then on.
Resque's delayed lists, which only its scheduler reads, are no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from trioworkers.printable import as_word

if TYPE_CHECKING:
    from trioworkers.wire.dialect import Dialect
    from trioworkers.wire.keys import Keys

Kind = Literal["set", "queue", "in-progress"]
"""A sorted set; a list for each queue; a list for each queue of a worker, which the registry of in-progress lists knows."""

Act = Literal["retry", "run-now", "requeue", "bury", "delete", "export", "import"]


class Place(NamedTuple):
    """One kind of place. A plain tuple: who asks a command for its help must not wait for what makes better ones."""

    name: str
    """What people call it: after `--in`, in an export, in the words of every command."""
    kind: Kind
    key: str
    """The attribute of `Keys` that is its key, or makes it from a name. Fake and model call their sets so, too."""
    acts: frozenset[Act] = frozenset()
    """What people may do with what lies here."""
    usual_for: frozenset[Act] = frozenset()
    """What is done here unless somebody says where."""
    score: str = ""
    """What a sorted set's score means, in epoch seconds: `due`, a moment to come; any other word (`died`) is what happened then."""
    failed: bool = False
    """Whether an attempt of what lies here has failed; else there was none, or the next one is yet to come."""
    latest_first: bool = False
    returns_to_queue: bool = False
    """Whether an import puts what lay here into its queue: it is here for a reason that doesn't travel."""
    command: str = ""
    """The command that lists it; "" where more must be said than the place."""
    about: str = ""
    """That command's summary."""

    @property
    def shown(self) -> str:
        """What people write for it: `retry`, `queue:NAME`."""
        return f"{self.name}:NAME" if self.kind == "queue" else self.name

    @property
    def is_due(self) -> bool:
        """Whether what lies here waits for a moment."""
        return self.score == "due"


def _acts(names: str) -> frozenset[Act]:
    return frozenset(names.split())  # type: ignore[arg-type]


_OUT = "requeue delete export import"

_TABLE: dict[str, Place] = {
    place.name: place
    for place in (
        Place(
            *("retry", "set", "retry", _acts(f"retry run-now bury {_OUT}"), _acts("retry"), "due"),
            failed=True,
            command="retries",
            about="Show failed jobs that wait for their next attempt.",
        ),
        Place(
            *("scheduled", "set", "schedule", _acts(f"run-now bury {_OUT}"), _acts("run-now"), "due"),
            command="scheduled",
            about="Show jobs that are scheduled for later, soonest first.\n\nJobs of a paused class wait here, too.",
        ),
        Place(
            *("dead", "set", "dead", _acts(f"retry {_OUT}"), _acts("requeue"), "died"),
            failed=True,
            latest_first=True,
            command="dead",
            about="Show jobs that failed for good, latest first.",
        ),
        Place(
            *("parked", "set", "parked", _acts(f"bury {_OUT}"), frozenset(), "parked"),
            returns_to_queue=True,
            command="parked",
            about="Show jobs that wait for a permit of a limit, longest first.",
        ),
        Place(
            *("next", "set", "next", _acts(f"bury {_OUT}"), frozenset(), "sent"),
            returns_to_queue=True,
            command="next",
            about="Show unique jobs that wait to replace or follow another job.\n\nThe job that has waited longest comes first.",
        ),
        Place(
            *("waiting", "set", "successors", _acts(f"bury {_OUT}"), frozenset(), "sent"),
            returns_to_queue=True,
            command="waiting",
            about="Show jobs that wait for other jobs of their batch.\n\nThe job that has waited longest comes first.",
        ),
        Place("queue", "queue", "queue", _acts(f"bury {_OUT}")),
        Place("running", "in-progress", "in_progress"),
    )
}
"""In the order in which people read it. Written to by nobody but a test that adds a place and looks where it turns up."""


def place(name: str) -> Place:
    """The place of this name. Raises KeyError."""
    return _TABLE[name]


def all_places() -> Sequence[Place]:
    """All of them, in the order in which they are shown."""
    return tuple(_TABLE.values())


def sets() -> Sequence[Place]:
    """Those that are one sorted set."""
    return [each for each in _TABLE.values() if each.kind == "set"]


def places_for(act: Act) -> Sequence[Place]:
    """Where this may be done; what is usual first."""
    allowed = [each for each in _TABLE.values() if act in each.acts]
    return sorted(allowed, key=lambda each: act not in each.usual_for)


def shown(places: Sequence[Place], last: str = "or") -> str:
    """Places as a sentence has them: `retry, scheduled, dead or queue:NAME`."""
    names = [each.shown for each in places]
    return f" {last} ".join([", ".join(names[:-1]), names[-1]]) if names[1:] else "".join(names)


class Location(NamedTuple):
    """Where to look: a place by its name; of queues, which. `dialect`: what is spoken there, if not what we speak."""

    place: str
    queue: str = ""
    dialect: Dialect | None = None

    def __str__(self) -> str:
        return f"queue {as_word(self.queue)}" if self.is_queue else f"the {self.place} set"

    @property
    def kind(self) -> Place:
        """Its line in the table."""
        return place(self.place)

    @property
    def is_queue(self) -> bool:
        """Whether it is a list and not a sorted set."""
        return self.kind.kind == "queue"

    def key(self, keys: Keys) -> str:
        """Its key, where `keys` are what is spoken unless it says otherwise."""
        spoken = keys if self.dialect is None else self.dialect.keys(keys.worker_namespace)
        found = getattr(spoken, self.kind.key)
        return str(found(self.queue) if self.is_queue else found)


def parse_location(text: str, allowed: Sequence[Place]) -> Location | None:
    """What somebody writes for one of these places, `retry` or `queue:NAME`; None for anything else."""
    name, _, queue = text.partition(":")
    known = any(each.name == name and bool(queue) is (each.kind == "queue") for each in allowed)
    return Location(name, queue) if known else None
