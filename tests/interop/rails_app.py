"""Handlers for the jobs of `rails.rb`: each notes what it got as a line of the file RUNS."""

from __future__ import annotations

import json
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from trioworkers import App, Context, GlobalID

app = App()
RUNS = Path(os.environ.get("RUNS", "runs"))


def note(ctx: Context, args: object, kwargs: object) -> None:
    job = ctx.job
    record = {
        "class": job.job_class,
        "args": repr(args),
        "kwargs": repr(kwargs),
        "jid": job.jid,
        "attempt": ctx.attempt,
        "executions": job.active_job_fields.get("executions"),
    }
    with RUNS.open("a") as runs:
        runs.write(json.dumps(record) + "\n")


@app.handler("python", "*")
async def anything(ctx: Context, *args: Any, **kwargs: Any) -> None:
    note(ctx, list(args), kwargs)


@app.handler("python", "TrackUserJob")
async def track_user(
    ctx: Context, user: GlobalID, email: str, *, born: date | None = None, balance: Decimal = Decimal(0)
) -> None:
    note(ctx, [user, email], {"born": born, "balance": balance})


@app.handler("python", "MovingJob")
async def moving(ctx: Context, number: int, *, at: date) -> None:
    raise ValueError("Python can't")
