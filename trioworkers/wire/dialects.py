"""The dialects by name: `sidekiq`, `resque`, `goworkers`, each with a namespace if need be (`resque:prod`)."""

from __future__ import annotations

from trioworkers.errors import ConfigurationError
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.goworkers import GoWorkers
from trioworkers.wire.keys import hides_a_queue
from trioworkers.wire.resque import Resque

FAMILIES: dict[str, type[Dialect]] = {kind.family: kind for kind in (Dialect, Resque, GoWorkers)}


def dialect_named(text: str, namespace: str = "") -> Dialect:
    """The dialect that `text` names: `FAMILY` (in `namespace`, else in the family's own one) or `FAMILY:NAMESPACE`.

    Raises ConfigurationError.
    """
    family, colon, given = text.partition(":") if isinstance(text, str) else ("", "", "")
    kind = FAMILIES.get(family)
    if kind is None:
        raise ConfigurationError(f"a dialect is one of {', '.join(FAMILIES)}, with or without :NAMESPACE, not {text!r}")
    if hides_a_queue(given):
        raise ConfigurationError(
            f"namespace {given!r} would share keys with queues of another one: `queue` can't be a part of it"
        )
    return kind(given if colon else namespace or kind.own_namespace)
