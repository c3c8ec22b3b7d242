"""Payloads that once ended every worker that met them: in a queue, in the retry and in the schedule set; workers and their neighbours go on."""

from __future__ import annotations

from collections.abc import Callable

from harness import Jobs
from servers import Server, Worker, wait_for

Work = Callable[..., Worker]
HUGE = ["1" * 310, "-" + "9" * 400, "9" * 4300, "9" * 5000, "1e308", "1e400", "253402300800000"]
FIELDS = [
    "created_at",
    "enqueued_at",
    "failed_at",
    "retried_at",
    "retry_for",
    "retry",
    "retry_count",
    "backtrace",
    "tw_expires",
    "tw_deadline",
    "tw_snoozed",
    "expiry",
    "at",
]
FRAME = '{"class":"FailAfter","args":[0],"queue":"q","jid":"%s","retry":1,%s}'


def hostile() -> list[str]:
    found = []
    for number in HUGE:
        for field in FIELDS:
            found.append(FRAME % (f"h{len(found)}", f'"{field}":{number}'))
        found.append(
            FRAME
            % (f"h{len(found)}", f'"retry":{number},"retry_count":{number},"failed_at":{number},"retry_for":{number}')
        )
    return found


def test_no_number_of_a_payload_ends_a_worker_or_holds_its_neighbours_up(work: Work, server: Server, jobs: Jobs):
    payloads = hostile()
    server.command("SADD", "queues", "q")
    server.command("LPUSH", "queue:q", *payloads)
    for place in ("retry", "schedule"):
        server.command("ZADD", place, *(word for payload in payloads for word in (1, f"{payload} ")))
    workers = [work(name, CONCURRENCY="10").wait_started() for name in ("w1", "w2")]
    jobs.push(50, "Sleep", 0.01)
    wait_for(lambda: len(jobs.counted("end")) >= 50, "the others run", 60)
    wait_for(lambda: not jobs.queued() and jobs.in_progress() == 0, "nothing is stuck", 60)
    assert all(worker.process.poll() is None for worker in workers)
    for worker in workers:
        assert "OverflowError" not in worker.text
        assert "can't be promoted" not in worker.text
        assert "a way that we can't handle" not in worker.text
    assert server.command("ZCARD", "schedule") == 0
    due = server.command("ZRANGEBYSCORE", "retry", "-inf", 1_000_000)
    assert due == []  # what was due there is gone; what failed since waits
