"""Random batches and graphs, small and large, ends of every kind, lost replies, takeovers, operators; looked at after each step."""

from __future__ import annotations

import json
import os

import pytest
from flow_machine import Flows
from graph_machine import LargeGraphs

SEEDS = (0, None)
"""The second one by chance."""
MORE_SEEDS = range(1, 40)
STEPS = 120
LOOKS_EVERY = 4
"""At all of what may be a thousand members."""


@pytest.mark.parametrize("seed", [*SEEDS, *(pytest.param(seed, marks=pytest.mark.slow) for seed in MORE_SEEDS)])
def test_batches_and_graphs_are_always_right(redis_url: str, seed: int | None):
    chosen = int.from_bytes(os.urandom(3), "big") if seed is None else seed
    print(f"seed {chosen}")
    machine = Flows(redis_url, chosen)
    with machine.stack:
        for _ in range(STEPS):
            machine.step()
            machine.check()
        machine.finish()
        machine.check()
        assert machine.redis("ZCARD", "tw:successors") == 0
        assert {json.loads(payload)["class"] for payload in machine.redis("LRANGE", "queue:c", 0, -1)} >= {"finished"}


@pytest.mark.parametrize("seed", [*SEEDS, *(pytest.param(seed, marks=pytest.mark.slow) for seed in MORE_SEEDS)])
def test_large_graphs_are_always_right(redis_url: str, seed: int | None):
    chosen = int.from_bytes(os.urandom(3), "big") if seed is None else seed
    print(f"seed {chosen}")
    machine = LargeGraphs(redis_url, chosen)
    with machine.stack:
        for number in range(STEPS):
            machine.step()
            if number % LOOKS_EVERY == 0:
                machine.check()
        machine.finish()
        machine.check()
        assert machine.redis("ZCARD", "tw:successors") == 0
