"""trioworkers: background workers for Trio that speak Sidekiq.

Users import from here, and only from here. What is behind these names is private; `docs/internals.md` walks through it.
Names are looked up when first used, so that importing the package is quick and starts nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trioworkers import loggers as _loggers  # noqa: F401 - before anything is logged

if TYPE_CHECKING:
    from trioworkers import testing as testing
    from trioworkers.app import App as App
    from trioworkers.engine.worker import Stats as Stats
    from trioworkers.engine.worker import Worker as Worker
    from trioworkers.errors import BadArguments as BadArguments
    from trioworkers.errors import BadJob as BadJob
    from trioworkers.errors import BadResult as BadResult
    from trioworkers.errors import Bury as Bury
    from trioworkers.errors import CallFailed as CallFailed
    from trioworkers.errors import ConfigurationError as ConfigurationError
    from trioworkers.errors import CPUWorkerDied as CPUWorkerDied
    from trioworkers.errors import DeadlinePassed as DeadlinePassed
    from trioworkers.errors import Discard as Discard
    from trioworkers.errors import DuplicateJob as DuplicateJob
    from trioworkers.errors import FanOutError as FanOutError
    from trioworkers.errors import HostPaused as HostPaused
    from trioworkers.errors import JobFailed as JobFailed
    from trioworkers.errors import JobGone as JobGone
    from trioworkers.errors import NotRecorded as NotRecorded
    from trioworkers.errors import PrivateAddress as PrivateAddress
    from trioworkers.errors import RateLimited as RateLimited
    from trioworkers.errors import RecordsLost as RecordsLost
    from trioworkers.errors import Refused as Refused
    from trioworkers.errors import ResponseTooLarge as ResponseTooLarge
    from trioworkers.errors import RetryAfter as RetryAfter
    from trioworkers.errors import SharedQueue as SharedQueue
    from trioworkers.errors import Superseded as Superseded
    from trioworkers.errors import TrioworkersError as TrioworkersError
    from trioworkers.errors import Unavailable as Unavailable
    from trioworkers.errors import UnknownClass as UnknownClass
    from trioworkers.errors import WorkerDied as WorkerDied
    from trioworkers.http import Breaker as Breaker
    from trioworkers.http import Http as Http
    from trioworkers.http import Limit as Limit
    from trioworkers.jobs import sources as sources
    from trioworkers.jobs.batch import Batch as Batch
    from trioworkers.jobs.batch import chain as chain
    from trioworkers.jobs.batch import group as group
    from trioworkers.jobs.client import Client as Client
    from trioworkers.jobs.context import Context as Context
    from trioworkers.jobs.fan_out import FanOut as FanOut
    from trioworkers.jobs.handler import Handler as Handler
    from trioworkers.jobs.hooks import Hook as Hook
    from trioworkers.jobs.limits import FleetLimit as FleetLimit
    from trioworkers.jobs.middleware import CallNext as CallNext
    from trioworkers.jobs.middleware import Middleware as Middleware
    from trioworkers.jobs.unique import Debounce as Debounce
    from trioworkers.jobs.unique import Throttle as Throttle
    from trioworkers.jobs.unique import Unique as Unique
    from trioworkers.sending import Sent as Sent
    from trioworkers.shards import Shard as Shard
    from trioworkers.wire.job import Job as Job
    from trioworkers.wire.ruby_values import GlobalID as GlobalID
    from trioworkers.wire.ruby_values import Range as Range
    from trioworkers.wire.ruby_values import Symbol as Symbol

_HOMES = {
    "app": ("App",),
    "jobs.batch": ("Batch", "chain", "group"),
    "jobs.client": ("Client",),
    "jobs.context": ("Context",),
    "jobs.middleware": ("CallNext", "Middleware"),
    "engine.worker": ("Stats", "Worker"),
    "errors": (
        "BadArguments",
        "BadJob",
        "BadResult",
        "Bury",
        "CallFailed",
        "ConfigurationError",
        "CPUWorkerDied",
        "DeadlinePassed",
        "Discard",
        "DuplicateJob",
        "FanOutError",
        "HostPaused",
        "JobFailed",
        "JobGone",
        "NotRecorded",
        "PrivateAddress",
        "RecordsLost",
        "Refused",
        "ResponseTooLarge",
        "RateLimited",
        "RetryAfter",
        "SharedQueue",
        "Superseded",
        "TrioworkersError",
        "Unavailable",
        "UnknownClass",
        "WorkerDied",
    ),
    "jobs.fan_out": ("FanOut",),
    "jobs.handler": ("Handler",),
    "jobs.hooks": ("Hook",),
    "jobs.limits": ("FleetLimit",),
    "jobs.unique": ("Debounce", "Throttle", "Unique"),
    "http": ("Breaker", "Http", "Limit"),
    "sending": ("Sent",),
    "shards": ("Shard",),
    "wire.job": ("Job",),
    "wire.ruby_values": ("GlobalID", "Range", "Symbol"),
}
_MODULES = {"sources": "jobs.sources", "testing": "testing"}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - one list of names is enough


def __getattr__(name: str) -> Any:
    if name in _MODULES:  # used by these names, `trioworkers.testing.run`
        return import_module(f"trioworkers.{_MODULES[name]}")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'trioworkers' has no attribute {name!r}")
    value = getattr(import_module(f"trioworkers.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
