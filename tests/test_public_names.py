"""What `trioworkers` offers, and what each name is: other programs import these, wherever the house keeps them."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import trioworkers

ERRORS = (
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
)
PUBLIC = {
    "App": "trioworkers.app.App",
    "Batch": "trioworkers.jobs.batch.Batch",
    "chain": "trioworkers.jobs.batch.chain",
    "group": "trioworkers.jobs.batch.group",
    "Breaker": "trioworkers.http.Breaker",
    "CallNext": "trioworkers.jobs.middleware.CallNext",
    "Client": "trioworkers.jobs.client.Client",
    "Context": "trioworkers.jobs.context.Context",
    "Debounce": "trioworkers.jobs.unique.Debounce",
    "FanOut": "trioworkers.jobs.fan_out.FanOut",
    "FleetLimit": "trioworkers.jobs.limits.FleetLimit",
    "GlobalID": "trioworkers.wire.ruby_values.GlobalID",
    "Handler": "trioworkers.jobs.handler.Handler",
    "Hook": "trioworkers.jobs.hooks.Hook",
    "Http": "trioworkers.http.Http",
    "Job": "trioworkers.wire.job.Job",
    "Limit": "trioworkers.http.Limit",
    "Middleware": "trioworkers.jobs.middleware.Middleware",
    "Range": "trioworkers.wire.ruby_values.Range",
    "Sent": "trioworkers.sending.Sent",
    "Shard": "trioworkers.shards.Shard",
    "Stats": "trioworkers.engine.worker.Stats",
    "Symbol": "trioworkers.wire.ruby_values.Symbol",
    "Throttle": "trioworkers.jobs.unique.Throttle",
    "Unique": "trioworkers.jobs.unique.Unique",
    "Worker": "trioworkers.engine.worker.Worker",
} | {name: f"trioworkers.errors.{name}" for name in ERRORS}
"""A name that is missing here is a promise made by accident; one that moved has to be found under its old name still."""

HEAVY = ("anyio", "coredis", "httpx", "redis", "trio")

DECLARING_PROGRAM = """
import sys
from contextlib import asynccontextmanager
from trioworkers import App, Breaker, Bury, Context, Http, Job, Limit, RetryAfter, Symbol

@asynccontextmanager
async def lifespan():
    yield 1

app = App("redis://localhost:1", http=Http(limits={"*": Limit(rate="1/s")}, breaker=Breaker()), lifespan=lifespan)
app.queue("mail", concurrency=3)

@app.handler("mail", "WelcomeJob", timeout=3, retry=4)
async def welcome(ctx: Context, user: int, greeting: str = "hello") -> None:
    raise RetryAfter(3)

@app.handler("mail")
async def plain(user: int) -> None:
    raise Bury

@app.middleware
async def around(ctx, call_next):
    return await call_next()

assert welcome.job(7, greeting="hi").args == (7, "hi")
assert plain.active_job(user=3).kwargs == {"user": 3}
assert Job("mail", "Other", [Symbol("a")]).queue == "mail"
assert app.queues == {"mail": 3}
app.check()
repr(app)
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_list_is_complete():
    assert sorted(PUBLIC) == trioworkers.__all__
    assert set(dir(trioworkers)) == {*PUBLIC, "__version__"}


@pytest.mark.parametrize("name", PUBLIC)
def test_name_is_what_it_was(name: str):
    value = getattr(trioworkers, name)
    assert f"{value.__module__}.{value.__qualname__}" == PUBLIC[name]


def test_testing_is_a_module_of_its_own():
    assert isinstance(trioworkers.testing, types.ModuleType)


def test_handlers_are_declared_and_their_jobs_built_without_trio_or_a_redis_client():
    """So a Django or Flask process can use an app's declarations."""
    done = subprocess.run(
        [sys.executable, "-c", DECLARING_PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = eval(done.stdout)
    assert "trioworkers" in loaded
    assert not set(HEAVY) & set(loaded)


def test_only_names_that_need_trio_bring_it_in():
    pure = sorted(set(PUBLIC) - {"Client", "FanOut", "Stats", "Worker"})
    program = f"import sys, trioworkers; [getattr(trioworkers, name) for name in {pure}]; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"
