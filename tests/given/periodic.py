"""What docs/periodic.md takes for granted."""

from trioworkers import App

REAL = "without a worker"
given = App()


@given.handler("sync", "SyncJob")
async def sync(tenant: int) -> None: ...


def check(names, server):
    assert "DailyReport" in repr(names["app"].periodic_jobs)
    assert server.command("HLEN", "tw:cron") == 0  # created, and deleted
