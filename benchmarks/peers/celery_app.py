"""Celery: `celery -A celery_app worker`."""

from __future__ import annotations

import jobs_threads
from celery import Celery
from common import QUEUES, REDIS_URL

app = Celery("bench", broker=REDIS_URL)
app.conf.update(
    task_default_queue="bench",
    task_queues=None,
    task_ignore_result=True,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    task_acks_late=False,  # the default: acknowledged before it runs
)
TASKS = {job.__name__: app.task(job, name=job.__name__) for job in jobs_threads.JOBS}
QUEUE_LIST = ",".join(QUEUES)

if __name__ == "__main__":
    import threads_client

    producer = app.amqp.producer_pool.acquire(block=True)
    threads_client.run(lambda job, n, text: TASKS[job].apply_async((n, text), producer=producer))
