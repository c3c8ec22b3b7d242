"""An app on a queue that a Ruby Sidekiq consumes as well; it knows none of Ruby's classes."""

from __future__ import annotations

from trioworkers import App

app = App()


@app.handler("solved")
async def ours() -> None: ...
