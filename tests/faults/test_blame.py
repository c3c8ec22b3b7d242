"""Who is charged with the deaths of real workers: whoever killed them, and nobody who had not even started."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from harness import Jobs
from servers import Server, Worker, wait_for

Work = Callable[..., Worker]
NEIGHBOURS = 10


@pytest.mark.parametrize("size", [0, 2_000_000], ids=["as jobs are", "large"])
def test_neighbours_of_a_killer_that_had_not_started_are_never_charged(
    work: Work, jobs: Jobs, server: Server, size: int
):
    """It kills its worker in its first step: of those fetched with it, those behind it have not begun."""
    charged: dict[str, int] = {}

    def note_charges() -> None:
        fields = server.command("HGETALL", "tw:crashes")
        assert isinstance(fields, list)
        for jid, count in zip(fields[::2], fields[1::2], strict=True):
            charged[jid] = max(charged.get(jid, 0), int(count))

    jobs.push(NEIGHBOURS, "Sleep", 0.3)
    jobs.push(1, "Die", padding="x" * size)
    jobs.push(NEIGHBOURS, "Sleep", 0.01)
    jids = [*jobs.payloads]
    killer, behind = jids[NEIGHBOURS], jids[NEIGHBOURS + 1 :]
    options = {"CONCURRENCY": "30", "MAX_PAYLOAD_BYTES": "3000000"}
    for life in range(3):
        worker = work(**options)
        worker.ended()
        note_charges()
        assert jobs.counted("start")[killer] == life + 1
        if life == 0 or (life == 1 and not size):  # later, who was not fetched with it may run beside it
            assert not {*behind} & {*jobs.counted("start")}
    last = work(**options).wait_started()
    wait_for(lambda: {*jobs.counted("end")} == {*jids} - {killer}, "all others are done")
    wait_for(
        lambda: jobs.jids("dead") == {killer} and not jobs.in_progress(), "the killer is buried, and nothing stuck"
    )
    assert last.process.poll() is None
    dead = server.command("ZRANGE", "dead", 0, -1)
    assert isinstance(dead, list)
    assert json.loads(dead[0])["error_class"] == "trioworkers.WorkerDied"
    assert {jid: charged.get(jid, 0) for jid in behind} == dict.fromkeys(behind, 0)
