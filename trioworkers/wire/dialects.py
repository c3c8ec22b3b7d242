"""The dialects by name: `sidekiq`, `resque`, `goworkers`, each with a namespace if need be (`resque:prod`)."""

from __future__ import annotations

from importlib import import_module

from trioworkers.errors import ConfigurationError
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.keys import hides_a_queue

FAMILIES = {"sidekiq": ("dialect", "Dialect"), "resque": ("resque", "Resque"), "goworkers": ("goworkers", "GoWorkers")}
"""Where each is. Most programs speak one of them, and import no other."""


def _kind(family: str) -> type[Dialect] | None:
    if family == Dialect.family:
        return Dialect
    if family not in FAMILIES:
        return None
    module, name = FAMILIES[family]
    found: type[Dialect] = getattr(import_module(f"trioworkers.wire.{module}"), name)
    return found


def dialect_named(text: str, namespace: str = "") -> Dialect:
    """The dialect that `text` names: `FAMILY` (in `namespace`, else in the family's own one) or `FAMILY:NAMESPACE`.

    Raises ConfigurationError.
    """
    family, colon, given = text.partition(":") if isinstance(text, str) else ("", "", "")
    kind = _kind(family)
    if kind is None:
        raise ConfigurationError(f"a dialect is one of {', '.join(FAMILIES)}, with or without :NAMESPACE, not {text!r}")
    if hides_a_queue(given):
        raise ConfigurationError(
            f"namespace {given!r} would share keys with queues of another one: `queue` can't be a part of it"
        )
    return kind(given if colon else namespace or kind.own_namespace)
