"""What the person of `test_web_people.py` looks after."""

from __future__ import annotations

from pathlib import Path

import trio

from trioworkers import App, Context

app = App()
work = app.queue("work", concurrency=5)


@app.handler("work", "ImportJob")
async def import_(ctx: Context, flag: str) -> None:
    """Fails as long as a file isn't there."""
    if not Path(flag).exists():
        raise ConnectionError(f"no answer from <partner> for {ctx.job.jid}")


@app.handler("work", "ReportJob")
async def report(_: Context, seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, seconds)


@app.periodic("0 4 * * *", tz="Europe/Berlin")
@app.handler("work", "NightlyJob")
async def nightly(_: Context) -> None: ...
