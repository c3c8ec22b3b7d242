"""RQ: `rq worker -c rq_app -w rq.worker.SimpleWorker`, which runs jobs in the worker itself instead of a fork for each."""

from __future__ import annotations

import jobs_threads
from common import REDIS_URL as BENCH_URL
from redis import Redis
from rq import Queue

REDIS_URL = BENCH_URL  # what `rq worker -c rq_app` looks for

if __name__ == "__main__":
    import threads_client

    queue = Queue("bench", connection=Redis.from_url(BENCH_URL))
    FUNCTIONS = {job.__name__: job for job in jobs_threads.JOBS}

    def send(job: str, n: int, text: str) -> None:
        queue.enqueue(FUNCTIONS[job], n, text, result_ttl=0, job_timeout=3600)

    def send_many(job: str, given: list[tuple[int, str]]) -> None:
        queue.enqueue_many(
            [Queue.prepare_data(FUNCTIONS[job], args=args, result_ttl=0, timeout=3600) for args in given]
        )

    threads_client.run(send, send_many)
