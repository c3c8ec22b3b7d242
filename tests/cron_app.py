"""An app with periodic jobs. `RUNS`: a file, one line for each run; `ENTRIES`: how many once-a-second entries, `IDLE`: how many that are never due in a test."""

import os
from datetime import UTC
from pathlib import Path

from trioworkers import App, Context

app = App()
RUNS = Path(os.environ["RUNS"])


@app.handler("q", "Tick")
async def tick(ctx: Context, number: int = 0) -> None:
    assert ctx.tick is not None
    note(f"{number} {ctx.tick.astimezone(UTC).timestamp():.0f} {ctx.job.jid}\n")


def note(line: str) -> None:
    """One write, so that no two lines mix."""
    with RUNS.open("a") as file:
        file.write(line)


for number in range(int(os.environ.get("ENTRIES", "1"))):
    app.periodic("@every 1s", args=[number], name=f"each{number}", missed="all")(tick)
for number in range(int(os.environ.get("IDLE", "0"))):
    app.periodic("0 0 1 1 *", args=[number], name=f"idle{number}")(tick)
