"""What docs/hooks.md takes for granted."""

from trioworkers import App, Context  # noqa: F401

app = App()
DEAD = ["Fails"]


@app.handler("q", "Fails", retry=1)
async def fails() -> None:
    raise ValueError


async def during(names, test):
    assert (list(app.hooks.on_error), list(app.hooks.on_death)) == ([names["failed"]], [names["died"]])
    await test.enqueue(fails.job())
