"""The end comes in time and with the right status, whatever jobs leave behind, and before a worker has started."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Jobs, children_of
from servers import ROOT, Server, Worker, wait_for

Misuse = Callable[..., Worker]
Result = Callable[[str], str]

LEFT_BEHIND = [
    "thread",
    "executor",
    "exit_function",
    "child",
    "busy_pool",
    "object_that_lingers",
    "streams_that_linger",
    "way_out_that_lingers",
]


@pytest.mark.parametrize("how", LEFT_BEHIND)
def test_what_jobs_leave_behind_does_not_keep_the_process(misuse: Misuse, result: Result, jobs: Jobs, how: str):
    worker = misuse().wait_started()
    result(how)
    jobs.push(1, "Stay")
    wait_for(lambda: len(jobs.counted("start")) == 2, "the other one runs")
    children = children_of(worker.process.pid)
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0  # without a bound it is ten minutes
    assert len(jobs.queued()) == 1
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid, _ in children), "no child is left")


def test_what_ends_a_program_and_nobody_asked_for_is_a_failure(misuse: Misuse, result: Result):
    worker = misuse().wait_started()
    result("main_thread_told_to_exit")
    assert worker.ended() == 1
    assert "ended by SystemExit, which nobody asked for" in worker.text


def test_what_cancels_the_whole_program_and_nobody_asked_for_is_a_failure_of_the_jobs(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "Stay")
    wait_for(lambda: len(jobs.counted("start")) == 1, "one runs")
    jobs.push(1, "Misuse", "nursery_of_the_program_cancelled")
    assert worker.ended() == 1
    assert "was cancelled that only it may cancel" in worker.text
    assert len(jobs.queued()) == 1
    assert jobs.server.command("HGET", "tw:crashes", next(iter(jobs.payloads))) == "1"


def test_loop_that_broke_when_its_worker_had_ended_is_not_told_to_have_left_jobs(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "MisuseAndStay", "system_task_that_fails")
    assert worker.ended() == 1
    assert worker.text.count("a system task of this program failed, which ends Trio: stopping") == 1
    assert "only it may cancel" not in worker.text
    assert "The worker had ended before" in worker.text
    assert "stay in progress" not in worker.text
    assert (len(jobs.queued()), jobs.in_progress()) == (1, 0)


@pytest.mark.parametrize(
    "how",
    [
        "term_to_itself",
        "term_raised",
        "term_to_its_thread",
        "main_interrupted",
        "term_to_its_group",
    ],
)
def test_job_that_sends_its_own_worker_a_signal_is_charged_with_the_stop(misuse: Misuse, jobs: Jobs, how: str):
    worker = misuse().wait_started()
    jobs.push(1, "Stay")
    wait_for(lambda: len(jobs.counted("start")) == 1, "one runs")
    jobs.push(1, "MisuseAndStay", how)
    assert worker.ended() == 0
    assert f"sent {'SIGINT' if how == 'main_interrupted' else 'SIGTERM'} to its own worker" in worker.text
    assert len(jobs.queued()) == 2
    stays, kills = jobs.payloads
    assert jobs.server.command("HGET", "tw:crashes", kills) == "1"
    assert jobs.server.command("HGET", "tw:crashes", stays) is None


def test_stop_that_a_thread_asks_for_is_charged_to_nobody(misuse: Misuse, jobs: Jobs):
    """It may be the program's own, which watches its memory."""
    worker = misuse().wait_started()
    jobs.push(1, "MisuseAndStay", "term_from_a_thread")
    assert worker.ended() == 0
    assert "a thread, or a task of no job, sent SIGTERM to its own worker" in worker.text
    assert len(jobs.queued()) == 1
    assert jobs.server.command("HLEN", "tw:crashes") == 0


def test_stop_is_not_charged_to_a_job_that_has_asked_for_something_else(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "MisuseAndStay", "dump_asked_for")
    wait_for(lambda: "running jobs:" in worker.text, "it says what runs")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert "sent SIGTTIN to its own worker" in worker.text
    assert len(jobs.queued()) == 1
    assert jobs.server.command("HLEN", "tw:crashes") == 0


def test_end_that_a_job_brings_about_and_blocks_is_charged_as_a_crash(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "BreakAndBlock")
    assert worker.ended() == 1
    assert "its jobs stay in progress" in worker.text
    assert jobs.in_progress() == 1
    misuse("--lease", "2").wait_started()
    wait_for(lambda: jobs.server.command("HGET", "tw:crashes", next(iter(jobs.payloads))) == "1", "it is charged")


def test_job_that_cannot_be_cancelled_keeps_no_other_from_its_queue(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "WaitInHope")
    jobs.push(2, "Stay")
    wait_for(lambda: len(jobs.counted("start")) == 3, "they run")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert len(jobs.queued()) == 3
    assert "can't be cancelled" in worker.text


def status_when_told_to_stop(worker: Worker, jobs: Jobs) -> int:
    """The exit status of a worker that has run a job, and is told to stop while another one runs, which goes back to its queue."""
    jobs.push(1, "Stay")
    wait_for(lambda: len(jobs.counted("start")) == 2, "another one runs")
    worker.signal(signal.SIGTERM)
    status = worker.ended()
    assert len(jobs.queued()) == 1
    return status


def test_lock_of_all_logs_that_a_job_keeps_delays_no_stop(misuse: Misuse, result: Result, jobs: Jobs):
    worker = misuse().wait_started()
    result("lock_of_the_log_kept")
    assert status_when_told_to_stop(worker, jobs) == 0


def test_log_that_interrupts_ends_no_worker(misuse: Misuse, result: Result):
    worker = misuse().wait_started()
    result("log_that_interrupts")
    assert result("thread_fork") == "-15"
    assert worker.process.poll() is None


@pytest.mark.parametrize("how", ["log_that_interrupts", "log_that_raises_what_ends_programs"])
def test_log_that_raises_whatever_it_is_keeps_no_worker_from_its_end(
    misuse: Misuse, result: Result, jobs: Jobs, how: str
):
    worker = misuse().wait_started()
    result(how)
    assert status_when_told_to_stop(worker, jobs) == 0
    assert "Traceback" not in worker.text


@pytest.mark.parametrize("how", LEFT_BEHIND)
def test_worker_that_ends_by_itself_has_status_1_whatever_is_left(
    misuse: Misuse,
    result: Result,
    jobs: Jobs,
    server: Server,
    how: str,
):
    worker = misuse("--lease", "2").wait_started()
    result(how)
    server.command("SET", "tw:lease:w1", "another")
    assert worker.ended() == 1


def test_profile_function_that_raises_in_what_settles_keeps_no_job(misuse: Misuse, result: Result, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "Stay")
    wait_for(lambda: len(jobs.counted("start")) == 1, "one runs")
    result("profiles_what_settles")
    wait_for(lambda: jobs.in_progress() == 1, "it is settled")
    result("nothing")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert len(jobs.queued()) == 1


def test_signal_handlers_that_raise_end_no_worker(misuse: Misuse, result: Result, jobs: Jobs):
    worker = misuse().wait_started()
    assert result("alarm_in_its_own_time") == "ended"
    result("alarm_that_raises")
    wait_for(lambda: "raised misuse_app.Impatient" in worker.text, "it is told")
    result("alarm_that_exits")
    wait_for(lambda: "raised SystemExit" in worker.text, "it is told")
    result("stop_that_exits")
    jobs.push(1, "Stay")
    wait_for(lambda: len(jobs.counted("start")) == 5, "another one runs")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert len(jobs.queued()) == 1
    assert "Traceback" not in worker.text


def test_stop_comes_in_time_by_clocks_that_stand_still(misuse: Misuse, result: Result, jobs: Jobs):
    worker = misuse().wait_started()
    result("clocks_stand_still")
    jobs.push(1, "Misuse", "block")
    wait_for(lambda: len(jobs.counted("start")) == 2, "it blocks the loop")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert len(jobs.queued()) == 1


@pytest.mark.parametrize(
    "how", ["descriptors_closed", "descriptors_closed_but_the_first", "sockets_closed", "sockets_shut_down"]
)
def test_job_that_closes_the_process_s_descriptors_is_a_crash(misuse: Misuse, jobs: Jobs, how: str):
    """Nobody can go on without them; its jobs are safe where they are."""
    worker = misuse().wait_started()
    jobs.push(1, "Stay")
    wait_for(lambda: len(jobs.counted("start")) == 1, "one runs")
    jobs.push(1, "MisuseAndStay", how)
    assert worker.ended() == 1
    assert jobs.in_progress() == 2
    assert ("its jobs stay in progress" in worker.text) == (how != "descriptors_closed")  # else the log was among them


def test_stop_is_heard_where_no_file_may_be_open(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "MisuseAndStay", "no_more_files")
    wait_for(lambda: "a job set SIGTERM to SIG_IGN" in worker.text, "whoever hears signals has looked, and waits anew")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_exit_function_may_decide_on_the_status_but_not_on_jobs(misuse: Misuse, result: Result, jobs: Jobs):
    worker = misuse().wait_started()
    result("exit_function_that_exits")
    assert status_when_told_to_stop(worker, jobs) == 7


@pytest.mark.parametrize(
    ("how", "blocks"),
    [
        ("no_room_for_threads", False),
        ("no_room_for_threads", True),
        ("no_room_for_threads_and_a_timer", True),
        ("no_hook_for_threads", False),
        ("threads_that_never_run", False),
        ("threads_that_never_run", True),
    ],
)
def test_stop_is_heard_where_no_thread_can_be_started(
    misuse: Misuse, result: Result, jobs: Jobs, how: str, blocks: bool
):
    worker = misuse().wait_started()
    assert result(how) == "none"
    if blocks:
        jobs.push(1, "Misuse", "block")
        wait_for(lambda: len(jobs.counted("start")) == 2, "it blocks the loop")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert (jobs.in_progress(), len(jobs.queued())) == (int(blocks), 0)


def test_signals_while_the_interpreter_ends_do_not_change_the_status(misuse: Misuse, result: Result, jobs: Jobs):
    worker = misuse("--shutdown-timeout", "5").wait_started()
    result("thread")
    worker.signal(signal.SIGTERM)
    wait_for(lambda: "stopped: worker" in worker.text, "the worker is gone, the process is not")
    for _ in range(5):
        time.sleep(0.1)
        worker.signal(signal.SIGTERM)
        worker.signal(signal.SIGINT)
    assert worker.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGTTIN])
def test_signals_between_the_worker_and_the_interpreters_end_do_nothing(number: signal.Signals):
    command = (
        "import os, sys",
        "from trioworkers.process.ending import ending",
        "from trioworkers.process.signals import hearing",
        "ending.nothing_follows()",
        "with hearing(): pass",
        f"os.kill(os.getpid(), {int(number)})",
        "sys.exit(7)",
    )
    assert subprocess.run([sys.executable, "-c", "\n".join(command)], timeout=60, check=False).returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("starts", ["import that blocks", "lifespan that blocks", "lifespan that does not give up"])
def test_start_that_blocks_is_stopped_in_time(misuse: Misuse, jobs: Jobs, starts: str, number: signal.Signals):
    worker = misuse(STARTS=starts)
    wait_for(jobs.runs.exists, "it is on its way")
    worker.signal(number)
    interrupted = number == signal.SIGINT and starts.startswith("import")  # no worker yet: a command like any other
    assert worker.ended() == (130 if interrupted else 0)
    assert "Traceback" not in worker.text


def test_end_of_a_lifespan_that_blocks_is_bounded(misuse: Misuse, jobs: Jobs):
    worker = misuse(STARTS="lifespan whose end blocks").wait_started()
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_import_that_ignores_term_is_overruled(misuse: Misuse, jobs: Jobs):
    worker = misuse(STARTS="import that ignores TERM").wait_started()
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


SCRIPT = """
import sys, time, threading
from trioworkers import App, Context

app = App(sys.argv[1], process_id="w1", shutdown_timeout=0.2)

@app.handler("q", "Leave")
async def leave(ctx: Context) -> None:
    if sys.argv[2] == "thread":
        threading.Thread(target=time.sleep, args=(600,)).start()
    print("left", flush=True)

app.run()
time.sleep(float(sys.argv[3]))
print("went on", flush=True)
sys.exit(7)
"""


@pytest.fixture
def script(tmp_path: Path, server: Server, jobs: Jobs) -> Callable[..., subprocess.Popen[str]]:
    """A program of its own that calls `app.run()`, and whose one job has run."""
    (tmp_path / "program.py").write_text(SCRIPT)

    def start(leaves: str, goes_on_s: float) -> subprocess.Popen[str]:
        jobs.push(1, "Leave")
        command = [sys.executable, "program.py", server.url, leaves, str(goes_on_s)]
        program = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "left\n"
        return program

    return start


def test_program_that_goes_on_after_its_worker_may(script: Callable[..., subprocess.Popen[str]]):
    with script("nothing", 3) as program:
        program.send_signal(signal.SIGTERM)
        assert program.communicate(timeout=120)[0] == "went on\n"
        assert program.returncode == 7


def test_thread_that_a_job_left_does_not_keep_a_program(script: Callable[..., subprocess.Popen[str]]):
    with script("thread", 0) as program:
        program.send_signal(signal.SIGTERM)
        assert program.communicate(timeout=120)[0] == "went on\n"
        assert program.returncode == 0


def test_worker_is_one_that_ends(misuse: Misuse, result: Result, jobs: Jobs):
    """So that the tests above are not passed by a worker that never does its jobs."""
    worker: Worker = misuse().wait_started()
    assert result("plain_fork") == "-15"
    assert worker.process.poll() is None
