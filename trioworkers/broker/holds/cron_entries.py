"""What people want of periodic jobs' entries, whatever they speak to Redis with: the script, its arguments, what it says."""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs

from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.errors import ConfigurationError
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack
from trioworkers.wire.periodic import KEPT_RUNS, Periodic, encode_entry

EDIT_CRON = script(
    __file__,
    "edit_cron",
    keys=("cron",),
    args=(
        "own",
        "name",
        "action",
        "definition",
        "timing",
        "following",
        "work",
        "forgotten_after_s",
        "kept_runs",
        "news_s",
    ),
    preludes=ENDS,
)

Action = Literal["put", "restore", "delete", "pause", "resume", "run"]

FORGOTTEN_AFTER_S = 600
"""An entry of code that no live process has declared for so long leaves."""

NEWS_S = 10
"""How long it is to be seen that an entry is due sooner than workers know: some looks of an idle one."""


@attrs.frozen
class Edit:
    """What is wanted of the entry `name`; the rest see `edit_cron.lua`."""

    keys: Keys
    name: str
    action: Action
    definition: bytes = b""
    timing: str = ""
    next_s: float = math.inf
    work: tuple[Any, ...] = ()

    @property
    def args(self) -> list[str | bytes | int]:
        """The script's."""
        said = (self.keys.own, self.name, self.action, self.definition, self.timing, score(self.next_s))
        return [*said, pack(self.work), FORGOTTEN_AFTER_S, KEPT_RUNS, NEWS_S]


def putting(keys: Keys, entry: Periodic, now_s: float) -> Edit:
    """Have an entry that lives in Redis only; `now_s`: Redis's time. Raises BadJob, ConfigurationError for one that can't be."""
    try:
        definition, following = encode_entry(entry), entry.when.after(math.floor(now_s))
    except ValueError as error:
        raise ConfigurationError(f"periodic job {entry.name}: {error}") from None
    next_s = math.inf if following is None else float(following)
    return Edit(keys, entry.name, "put", definition, entry.timing, next_s)


def restoring(keys: Keys, entry: Periodic, now_s: float, *, paused: bool) -> Edit:
    """Have one that was exported be there again, due from now on, if there is none of its name. Raises as `putting` does."""
    return attrs.evolve(putting(keys, entry, now_s), action="restore", work=(int(paused),))


def check_put(name: str, answer: str) -> None:
    """What came of it. Raises ConfigurationError."""
    if answer == "CODE":
        raise ConfigurationError(f"periodic job {name} is declared in code, and is changed there")


def check_deleted(name: str, answer: str) -> bool:
    """What came of that: whether there was one. Raises ConfigurationError."""
    if answer == "CODE":
        raise ConfigurationError(f"periodic job {name} is declared in code: pause it, or take it out there")
    return answer == "OK"


def answer_of(reply: bytes | str) -> str:
    """What the script says."""
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply


def score(seconds: float) -> str:
    """A tick as it is written to Redis."""
    return "inf" if seconds == math.inf else f"{seconds:.0f}"
