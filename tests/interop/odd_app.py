"""As `odd.rb`, here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from trioworkers import App, Context

app = App()


@app.handler("q", "Odd")
async def odd(ctx: Context, *args: Any) -> None:
    if "fail" in json.dumps(args):
        raise RuntimeError("boom")
    note(json.dumps(args, separators=(",", ":")))


def note(line: str) -> None:
    with Path(os.environ["RAN"]).open("a") as ran:
        ran.write(f"{line}\n")
