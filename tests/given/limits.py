"""What docs/limits.md takes for granted."""

from datetime import UTC, datetime, timedelta  # noqa: F401

from trioworkers import Job  # noqa: F401

REAL = "with a worker"


async def during(names):
    client, app = names["client"], names["app"]
    jobs = [names["sync"].job(1), names["mail"].job("a"), names["sync_tenant"].job(1, "t"), names["long"].job()]
    for job in jobs:
        assert app.find(job.queue, job.job_class) is not None
    assert sorted(app.queue_limits) == ["mail"]
    await client.enqueue(names["mail"].job("a@example.org"))


def check(names, server):
    assert server.command("ZCARD", "dead") == 0
