"""dramatiq: `dramatiq dramatiq_app`."""

from __future__ import annotations

import dramatiq
import jobs_threads
from common import QUEUES, REDIS_URL
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Callbacks, Pipelines, Retries, ShutdownNotifications, TimeLimit

broker = RedisBroker(
    url=REDIS_URL,
    middleware=[
        AgeLimit(),
        TimeLimit(time_limit=3_600_000),
        ShutdownNotifications(),
        Callbacks(),
        Pipelines(),
        Retries(),
    ],
)
dramatiq.set_broker(broker)
ACTORS = {job.__name__: dramatiq.actor(job, queue_name="bench") for job in jobs_threads.JOBS}
for queue in QUEUES[1:]:
    dramatiq.actor(jobs_threads.empty, actor_name=f"empty_{queue}", queue_name=queue)

if __name__ == "__main__":
    import threads_client

    threads_client.run(lambda job, n, text: ACTORS[job].send(n, text))
