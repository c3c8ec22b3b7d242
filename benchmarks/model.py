"""`python benchmarks/model.py`: what 1, 10 and 100 machines do with 1, 4 and 16 Redises, from what a job costs.

Assumptions, each of which a real deployment may break:

- A worker process uses one core, and its CPU time per job doesn't depend on how many others there are. A machine has as many processes as cores.
- Redis uses one core of a machine of its own, and is driven to `BUSY` of it: beyond that the time to start a job grows without bound.
- Jobs are spread evenly over the shards, and cost the same however many there are. (`make bench-shards`: with four, empty jobs cost a worker 14 % more, for they are
  fetched and settled in smaller groups.) A worker does its upkeep (lease, record, look for due jobs) at each shard, busy or not;
  what that costs a Redis was measured with 10 and 50 idle workers, and with 10 beside 790 records of others.
- The network and what jobs call have room. Nobody waits for slots: there are enough for the time that a job waits.

`make bench-scaling` measures the costs, and puts what this says of one and two processes on one machine beside what they did.
"""

from __future__ import annotations

import attrs

BUSY = 0.8


@attrs.frozen
class Costs:
    """CPU time in µs: of a worker process and of Redis for a job; of Redis and of the worker for a second of one worker's upkeep at one shard."""

    worker_us: float
    redis_us: float
    upkeep_redis_us: float = 180.0
    upkeep_worker_us: float = 1000.0
    beside_redis_us: float = 0.4
    """Of Redis, for a second of that upkeep and each other worker there: all of them look whether the others are alive."""


def jobs_per_second(costs: Costs, *, processes: int, cores: float, shards: int) -> float:
    """On one machine that all of them share, as in the benchmark."""
    by_workers = processes / costs.worker_us
    by_redis = shards / costs.redis_us
    by_cores = cores / (costs.worker_us + costs.redis_us)
    return min(by_workers, by_redis, by_cores) * 1e6


def fleet(costs: Costs, *, machines: int, cores: int, shards: int) -> tuple[float, str]:
    """Jobs a second of machines beside Redises of their own, and what bounds them."""
    processes = machines * cores
    left_of_worker = max(0.0, 1 - shards * costs.upkeep_worker_us / 1e6)
    upkeep_us = costs.upkeep_redis_us + costs.beside_redis_us * (processes - 1)
    left_of_redis = max(0.0, BUSY - processes * upkeep_us / 1e6)
    by_workers = processes * left_of_worker * 1e6 / costs.worker_us
    by_redis = shards * left_of_redis * 1e6 / costs.redis_us
    return min(by_workers, by_redis), "workers" if by_workers <= by_redis else "Redis"


JOBS = {
    "empty": Costs(19.0, 3.0),
    "50 ms waits": Costs(54.0, 4.2),
    "fan-out of 4 calls": Costs(440.0, 15.0),
}
"""As measured, see docs/scaling.md."""


def main() -> None:
    cores = 8
    print(f"machines of {cores} cores, one process a core; jobs/s, and what bounds them\n")
    for name, costs in JOBS.items():
        print(f"{name}: {costs.worker_us:.0f} µs of a worker, {costs.redis_us:.1f} µs of Redis")
        print(f"{'machines':>10}" + "".join(f"{f'{shards} Redis':>24}" for shards in (1, 4, 16)))
        for machines in (1, 10, 100):
            row = [fleet(costs, machines=machines, cores=cores, shards=shards) for shards in (1, 4, 16)]
            print(f"{machines:>10}" + "".join(f"{rate:>14,.0f} ({bound})".rjust(24) for rate, bound in row))
        print()


if __name__ == "__main__":
    main()
