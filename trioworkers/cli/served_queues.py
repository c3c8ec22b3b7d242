"""`run --queues LIST --concurrency N --capsule NAME=…`: which of an App's queues are served, and how they share slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from trioworkers.errors import ConfigurationError, WrongUsage
from trioworkers.wire.capsule import A_WEIGHT, Capsule, why_not

if TYPE_CHECKING:
    from trioworkers.jobs.declarations import Declarations

Queues = dict[str, int] | list[str]
"""By weight, or in a strict order."""
AS_A_WHOLE = "NAME=50:critical=6,default=3"
TOGETHER = "queues"
"""What the capsule of `--queues` is called."""


@attrs.frozen
class Wanted:
    """Some queues, as the command line says it; None: as the App has it. `capsule`: None for queues that share slots as they do in the App."""

    option: str
    capsule: str | None
    concurrency: int | None
    queues: Queues | None


Only = list[Wanted]


def read_queues(text: str | None, concurrency: int | None, capsules: Sequence[str] = ()) -> Only | None:
    """What `--queues`, `--concurrency` and each `--capsule` say; None: all of the App's. Raises WrongUsage."""
    if text is None and concurrency is not None:
        raise WrongUsage("--concurrency is for --queues: what else has it, the App says")
    wanted = [] if text is None else [_read_queues(text, concurrency)]
    wanted += [_read_capsule(each) for each in capsules]
    if twice := [name for name, count in Counter(each.capsule for each in wanted).items() if count > 1]:
        raise WrongUsage(f"--capsule: {twice[0]!r:.80} is named twice")
    return wanted or None


def _read_queues(text: str, concurrency: int | None) -> Wanted:
    queues = _read_list("--queues", text)
    if queues is None or (isinstance(queues, dict) and concurrency is None):
        raise WrongUsage("--queues: weights are for all queues, and for --concurrency: critical=6,default=3")
    return _checked(Wanted("--queues", None if concurrency is None else TOGETHER, concurrency, queues))


def _read_capsule(text: str) -> Wanted:
    """`io`: a capsule of the App's. `io=50`: with so many slots. `io=50:critical=6,default=3`: of these queues; without a number with the App's slots."""
    name, is_said, rest = text.partition("=")
    number, has_list, after = rest.partition(":")
    is_number = number.isascii() and number.isdigit() and len(number) < 9
    listed = after if is_number else rest
    queues = _read_list("--capsule", listed) if is_said and (has_list or not is_number) else []
    if queues is None and ":" in name:
        raise WrongUsage(f"--capsule: after a capsule's name comes =, {AS_A_WHOLE}, not {text!r:.80}")
    if queues is None:
        raise WrongUsage("--capsule: weights are for all queues of a capsule: critical=6,default=3")
    return _checked(Wanted("--capsule", name, int(number) if is_number else None, queues or None))


def _read_list(option: str, text: str) -> Queues | None:
    """`a,b` or `a=6,b=3`; None if only some have weights. Raises WrongUsage."""
    names = [each.strip() for each in text.split(",")]
    if "" in names:
        raise WrongUsage(f"{option}: a queue's name is missing: critical,default, not {text!r:.80}")
    weighted = [each.partition("=") for each in names if "=" in each]
    if not weighted:
        return names
    if len(weighted) < len(names):
        return None
    for name, _, weight in weighted:
        if not (weight.isascii() and weight.isdigit() and len(weight) < 9):
            raise WrongUsage(f"{option}: queue {name!r:.80}: {A_WEIGHT}, not {weight!r:.80}")
    queues = {name: int(weight) for name, _, weight in weighted}
    if len(queues) < len(names):
        raise WrongUsage(f"{option}: a queue is named twice")
    return queues


def _checked(wanted: Wanted) -> Wanted:
    concurrency = 1 if wanted.concurrency is None else wanted.concurrency
    queues = ["any"] if wanted.queues is None else wanted.queues
    if why := why_not(TOGETHER if wanted.capsule is None else wanted.capsule, concurrency, queues):
        at_concurrency = wanted.option == "--queues" and why.startswith("concurrency")
        raise WrongUsage(f"{'--concurrency' if at_concurrency else wanted.option}: {why}")
    return wanted


def narrow(app: Declarations, only: Only | None) -> None:
    """Have the App serve only these. Raises WrongUsage if it doesn't have one."""
    if only is None:
        return
    found = [capsule for each in only for capsule in _capsules_of(app, each)]
    try:
        app.narrow(found)
    except ConfigurationError as error:
        raise WrongUsage(f"{only[-1].option}: {error}") from None


def _capsules_of(app: Declarations, wanted: Wanted) -> list[Capsule]:
    served = app.queues
    if missing := [queue for queue in wanted.queues or () if queue not in served]:
        has = ", ".join(sorted(served)) or "none"
        raise WrongUsage(f"{wanted.option}: the App has no queue {missing[0]!r:.80}; it has {has}")
    if wanted.capsule is None:
        return _shared_as_in(app, wanted.queues or ())
    known = next((each for each in app.capsules if each.name == wanted.capsule), None)
    if known is None and (wanted.concurrency is None or wanted.queues is None):
        has = ", ".join(each.name for each in app.capsules) or "none"
        raise WrongUsage(
            f"{wanted.option}: the App has no capsule {wanted.capsule!r:.80}; it has {has}, or say all of it: {AS_A_WHOLE}"
        )
    queues = wanted.queues
    if queues is None and known is not None:
        return [attrs.evolve(known, concurrency=wanted.concurrency or known.concurrency)]
    concurrency = wanted.concurrency or (known.concurrency if known is not None else 0)
    weights = queues if isinstance(queues, dict) else dict.fromkeys(queues or (), 1)
    return [Capsule(wanted.capsule, concurrency, weights, strict=not isinstance(queues, dict))]


def _shared_as_in(app: Declarations, queues: Sequence[str] | dict[str, int]) -> list[Capsule]:
    """These queues, with the slots that the App gives them: those of one capsule share them still."""
    found = []
    for capsule in app.capsules:
        weights = {queue: weight for queue, weight in capsule.weights.items() if queue in queues}
        if weights:
            found.append(attrs.evolve(capsule, weights=weights))
    return found
