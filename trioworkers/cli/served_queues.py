"""`run --queues LIST --concurrency N`: which of an App's queues are served, and how they share slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trioworkers.errors import ConfigurationError, WrongUsage
from trioworkers.wire.capsule import why_not

if TYPE_CHECKING:
    from trioworkers.jobs.declarations import Declarations

Only = tuple[dict[str, int] | list[str], int | None]


def read_queues(text: str | None, concurrency: int | None) -> Only | None:
    """The queues of `a,b` or `a=6,b=3`, and the concurrency; None for all of the App's. Raises WrongUsage."""
    if text is None:
        if concurrency is not None:
            raise WrongUsage("--concurrency is for --queues: what else has it, the App says")
        return None
    names = [each.strip() for each in text.split(",")]
    weighted = [each.partition("=") for each in names if "=" in each]
    queues: dict[str, int] | list[str] = names
    if weighted:
        if len(weighted) < len(names) or concurrency is None:
            raise WrongUsage("--queues: weights are for all queues, and for --concurrency: critical=6,default=3")
        if wrong := [
            weight for _, _, weight in weighted if not (weight.isascii() and weight.isdigit() and len(weight) < 9)
        ]:
            raise WrongUsage(f"--queues: a weight is a whole number from 1 on, not {wrong[0]!r:.80}")
        queues = {name: int(weight) for name, _, weight in weighted}
    if len(queues) < len(names) or (why := why_not("queues", 1 if concurrency is None else concurrency, queues)):
        why = "a queue is named twice" if len(queues) < len(names) else why
        raise WrongUsage(f"--{'concurrency' if why.startswith('concurrency') else 'queues'}: {why}")
    return queues, concurrency


def narrow(app: Declarations, only: Only | None) -> None:
    """Have the App serve only these. Raises WrongUsage if it doesn't have one."""
    if only is None:
        return
    try:
        app.narrow(*only)
    except ConfigurationError as error:
        raise WrongUsage(f"--queues: {error}") from None
