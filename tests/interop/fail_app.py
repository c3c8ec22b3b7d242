"""The same job as in fail.rb: it fails, whatever it is given, and its class says the same."""

from __future__ import annotations

from typing import Any

from trioworkers import App

app = App()


@app.handler("python", "Fail", retry=1, backtrace=2, tags=["ours"], dead=True)
async def fail(*args: Any) -> None:
    raise ValueError("no")
