"""What docs/scaling.md takes for granted."""

from trioworkers import App

app = App()


def check(names, server):
    assert app.queues == {"critical": 500, "default": 500, "low": 500, "urgent": 4, "nightly": 4}
