"""Computations of a real worker: what they start ends with them, however they end; what they do is charged to them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Jobs, computing, group_of
from servers import ROOT, Server, Worker, wait_for

Misuse = Callable[..., Worker]


def group(jobs: Jobs) -> int:
    """The process group of the computation that has noted it."""
    wait_for(lambda: jobs.lines("group"), "it computes")
    return int(jobs.lines("group")[0].split()[1])


@pytest.mark.parametrize("how", ["TERM", "TERM, shielded", "kill", "deadline", "cancelled by hand"])
def test_grandchildren_end_with_their_computation(misuse: Misuse, jobs: Jobs, server: Server, how: str):
    worker = misuse().wait_started()
    jobs.push(1, "Compute", "computes_nothing")
    wait_for(lambda: jobs.lines("end"), "a child is there")  # on a busy machine its start may take the whole deadline
    job_class = {"deadline": "ComputeFor", "TERM, shielded": "ComputeStubbornly"}.get(how, "Compute")
    jobs.push(1, job_class, "with_grandchildren")
    leader = group(jobs)
    wait_for(lambda: len(group_of(leader)) == 4 or how == "deadline", "all are there")
    match how:
        case "TERM" | "TERM, shielded":
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0
        case "kill":
            worker.kill()
        case "cancelled by hand":
            command = [sys.executable, "-m", "trioworkers", "cancel", f"{1:024x}", "--redis", server.url]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
            assert done.returncode == 0, done.stderr
    wait_for(lambda: not group_of(leader), "none of them is left")


def test_function_that_dies_is_charged_each_time_it_began(misuse: Misuse, jobs: Jobs, server: Server):
    misuse().wait_started()
    jobs.push(1, "Compute", "dies_of_term", retry=3)
    wait_for(lambda: server.command("ZCARD", "retry") == 1, "it has failed")
    (payload,) = server.command("ZRANGE", "retry", 0, -1)  # type: ignore[misc]
    assert json.loads(payload)["retry_count"] == 0
    assert "was ended by signal 15" in json.loads(payload)["error_message"]
    assert len(jobs.lines("computes")) == 1


@pytest.mark.parametrize("how", ["folder_deleted", "sockets_that_time_out"])
def test_processes_compute_whatever_a_job_did_to_the_folder_or_to_sockets(
    misuse: Misuse, result: Callable[[str], str], jobs: Jobs, how: str
):
    misuse().wait_started()
    result(how)
    jobs.push(1, "Compute", "makes_much")
    wait_for(lambda: len(jobs.lines("end")) == 2, "it has what was computed")


def test_computation_that_closes_its_descriptors_blocks_nobody(misuse: Misuse, jobs: Jobs, server: Server):
    worker = misuse().wait_started()
    jobs.push(1, "Compute", "closes_descriptors")
    leader = group(jobs)
    wait_for(lambda: server.command("ZCARD", "retry") == 1, "it has failed")
    assert not group_of(leader)
    assert "the event loop is blocked" not in worker.text


def test_what_computations_leave_behind_is_no_failure_at_the_end(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "Compute", "leaves_things_behind")
    leader = group(jobs)
    wait_for(lambda: jobs.counted("end"), "it is done")
    lines = len(worker.text.splitlines())
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert len(worker.text.splitlines()) <= lines + 3, worker.text
    wait_for(lambda: not group_of(leader), "nothing is left")


def test_what_a_function_left_behind_ends_with_a_worker_that_is_killed(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "Compute", "leaves_a_child_behind")
    leader = group(jobs)
    wait_for(lambda: jobs.counted("end"), "it is done")
    assert len(group_of(leader)) == 2
    worker.kill()
    wait_for(lambda: not group_of(leader), "nothing is left")


def test_computation_that_joins_another_group_ends_when_cancelled(misuse: Misuse, jobs: Jobs):
    misuse().wait_started()
    jobs.push(1, "ComputeUntilItMoves")
    wait_for(lambda: jobs.counted("end"), "it is cancelled")
    assert not Path(f"/proc/{jobs.lines('moved')[0].split()[1]}").exists()


UNGUARDED = """
import sys
from trioworkers import App, Context

app = App(sys.argv[1], process_id="w1", shutdown_timeout=1)

def double(number: int) -> int:
    return 2 * number

@app.handler("q", "Compute")
async def compute(ctx: Context) -> None:
    print(await ctx.run_cpu(double, 4), flush=True)

GUARD
    RUN
"""

EMBEDDED = "import trio; trio.run(app.serve)"


@pytest.mark.parametrize("run", ["app.run()", EMBEDDED])
@pytest.mark.parametrize("guarded", [False, True])
def test_program_without_the_guard_is_told_its_name(
    tmp_path: Path, jobs: Jobs, server: Server, run: str, guarded: bool
):
    guard = 'if __name__ == "__main__":' if guarded else "if True:"
    (tmp_path / "program.py").write_text(UNGUARDED.replace("GUARD", guard).replace("RUN", run))
    jobs.push(1, "Compute")
    log = tmp_path / "log"
    with log.open("wb") as sink:
        program = subprocess.Popen(
            [sys.executable, "program.py", server.url],
            cwd=tmp_path,
            stdout=sink,
            stderr=sink,
            env={"PYTHONPATH": str(ROOT)},
        )
    try:
        if guarded:
            wait_for(lambda: "8\n" in log.read_text(), "it has computed")
        else:
            wait_for(lambda: server.command("ZCARD", "retry") == 1, "it has failed")
            (payload,) = server.command("ZRANGE", "retry", 0, -1)  # type: ignore[misc]
            assert '`if __name__ == "__main__":`' in json.loads(payload)["error_message"]
            assert server.command("SCARD", "processes") == 1
            assert not computing(Worker(program, log))
            assert log.read_text().count("Traceback") <= 1
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == (0 if run == "app.run()" else -signal.SIGTERM)
    finally:
        program.kill()
        program.wait()
