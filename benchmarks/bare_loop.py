"""The ceiling: fetch in batches by Lua, decode, a task per job, settle in groups; nothing else, so nothing is promised.

`python bare_loop.py --redis URL --jobs N [--queue bench] [--concurrency 1000]` runs N jobs that wait in the queue and prints a
line of JSON: jobs, seconds, cpu_s. No clean-up, no retries, no leases, no cancellation: what our engine costs beyond this loop
is the price of its promises.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import coredis
import msgspec
import trio

FETCH = """
local result = {}
for i = 1, tonumber(ARGV[1]) do
  local payload = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
  if not payload then break end
  result[i] = payload
end
return result
"""
SETTLE = "for _, payload in ipairs(ARGV) do redis.call('LREM', KEYS[1], -1, payload) end"


async def empty(*args: object) -> None:
    """The job."""


class BareLoop:
    """One queue, one process. `handlers`: class name → async function of the job's arguments."""

    def __init__(self, url: str, queue: str, concurrency: int, handlers: dict[str, object]) -> None:
        self._client = coredis.Redis.from_url(url, decode_responses=False)
        self._keys = (f"queue:{queue}", f"queue:{queue}:bare:inprogress")
        self._free = concurrency
        self._handlers = handlers
        self._finished: list[bytes] = []
        self._changed = trio.Event()
        self.settled = 0

    async def run(self, count: int) -> None:
        """Run `count` jobs."""
        async with self._client, trio.open_nursery() as nursery:
            nursery.start_soon(self._fetch, nursery)
            await self._settle(count)
            nursery.cancel_scope.cancel()

    async def _fetch(self, nursery: trio.Nursery) -> None:
        fetch = self._client.register_script(FETCH)
        while True:
            payloads = await fetch(self._keys, [self._free])
            self._free -= len(payloads)
            for payload in payloads:
                nursery.start_soon(self._run, payload)
            while not self._free:
                await self._wait()

    async def _run(self, payload: bytes) -> None:
        job = msgspec.json.decode(payload)
        await self._handlers[job["class"]](*job["args"])  # type: ignore[operator]
        self._finished.append(payload)
        self._changed.set()

    async def _settle(self, count: int) -> None:
        settle = self._client.register_script(SETTLE)
        while self.settled < count:
            while not self._finished:
                await self._wait()
            group, self._finished = self._finished, []
            await settle(self._keys[1:], group)
            self._free += len(group)
            self.settled += len(group)
            self._changed.set()

    async def _wait(self) -> None:
        self._changed = trio.Event() if self._changed.is_set() else self._changed
        await self._changed.wait()


def measure(url: str, queue: str, concurrency: int, jobs: int) -> dict[str, float]:
    """Run `jobs` empty jobs that wait in the queue."""
    loop = BareLoop(url, queue, concurrency, {"Empty": empty})
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    trio.run(loop.run, jobs)
    now = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return {"jobs": jobs, "seconds": time.perf_counter() - began, "cpu_s": cpu_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", default="redis://localhost:6379/0")
    parser.add_argument("--queue", default="bench")
    parser.add_argument("--concurrency", type=int, default=1000)
    parser.add_argument("--jobs", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(measure(options.redis, options.queue, options.concurrency, options.jobs)))


if __name__ == "__main__":
    main()
