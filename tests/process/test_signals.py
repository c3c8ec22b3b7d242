"""Whose a signal is: what a job's child gets is the child's, what the worker gets it hears, whatever jobs did to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from harness import Jobs
from servers import PATIENCE_S, ROOT, Worker, wait_for

Misuse = Callable[..., Worker]
Result = Callable[[str], str]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("process", "-15"),
        ("process_interrupted", "3"),
        ("pool", "BrokenProcessPool"),
        ("preexec", "-15"),
        ("plain_fork", "-15"),
        ("thread_fork", "-15"),
    ],
)
def test_signal_to_a_child_is_the_childs(misuse: Misuse, result: Result, jobs: Jobs, how: str, told: str):
    worker = misuse().wait_started()
    for _ in range(5):
        assert result(how) == told
    jobs.push(1, "Stay")
    wait_for(lambda: len(jobs.counted("start")) == 6, "the worker goes on")
    assert worker.process.poll() is None
    assert "stopping" not in worker.text
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert len(jobs.queued()) == 1


def test_forked_child_that_comes_back_into_the_loop_ends_there(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(20, "Misuse", "fork_that_comes_back")
    wait_for(
        lambda: sum(line.split()[2] == "70" for line in jobs.lines("end")) == 20, "each child has ended with our status"
    )
    wait_for(lambda: jobs.in_progress() == 0, "all are settled")
    assert len(jobs.counted("start")) == 20
    assert set(jobs.counted("start").values()) == {1}
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_children_that_hold_our_descriptors_do_not_keep_the_worker(misuse: Misuse, result: Result, jobs: Jobs):
    worker = misuse().wait_started()
    child = int(result("child_with_our_descriptors"))
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize(
    "how",
    [
        "ignore",
        "default",
        "wakeup",
        "event_loop",
        "handler_of_their_own",
        "dumps_on_term",
        "closed_streams",
        "no_streams",
        "wakeup_put_back_unguarded",
        "shallow",
        "wakeup_that_blocks",
        "raises_in_all_threads",
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_job_makes_the_worker_deaf(misuse: Misuse, result: Result, jobs: Jobs, how: str, number: signal.Signals):
    worker = misuse().wait_started()
    result(how)
    worker.signal(number)
    assert worker.ended() == 0
    assert ("theirs" in jobs.runs.read_text()) is (how == "handler_of_their_own" and number == signal.SIGTERM)


def test_what_was_kept_is_said(misuse: Misuse, result: Result, jobs: Jobs):
    worker = misuse().wait_started()
    result("ignore")
    wait_for(lambda: "a job set SIGTERM to SIG_IGN" in worker.text, "it is said")
    result("ignore_unguarded")
    wait_for(lambda: worker.text.count("a job set SIGTERM to SIG_IGN") == 2, "what got past us is mended, and said")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_wakeup_descriptor_that_python_refuses_is_refused(misuse: Misuse, result: Result):
    misuse().wait_started()
    assert result("wakeup_that_blocks") == "ValueError,TypeError,TypeError"


def test_log_goes_on_after_a_job_raised_in_all_threads(misuse: Misuse, result: Result):
    worker = misuse().wait_started()
    for _ in range(3):
        result("raises_in_all_threads")
        before = len(worker.text)  # a line that is just being written may be lost
        wait_for(lambda before=before: result("nothing") and len(worker.text) > before, "something is told")  # type: ignore[misc]
    result("ignore_unguarded")
    wait_for(lambda: "a job set SIGTERM to SIG_IGN" in worker.text, "who hears signals goes on, too")


def test_timers_that_nobody_handles_end_no_worker(misuse: Misuse, result: Result, jobs: Jobs):
    worker = misuse().wait_started()
    assert result("alarm_without_a_handler") == "SIG_DFL"  # as the job would find it anywhere else
    wait_for(lambda: "SIGALRM came, from a timer of a job" in worker.text, "it is said")
    assert result("alarm_in_a_forked_child") == str(-signal.SIGALRM)
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert worker.text.count("SIGALRM came") == 1  # though it came twenty times a second


def test_write_that_nobody_reads_ends_no_worker(misuse: Misuse, result: Result):
    worker = misuse().wait_started()
    assert result("pipe_given_back") == "told"
    wait_for(lambda: "a job set SIGPIPE to SIG_DFL" in worker.text, "it is said")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_recursion_limit_of_the_program_comes_back(misuse: Misuse, result: Result):
    worker = misuse().wait_started()
    result("shallow")
    wait_for(lambda: "a job set the recursion limit to" in worker.text, "it is said")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_stop_is_heard_while_a_job_computes_that_lets_no_thread_have_its_turn(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "MisuseAndStay", "takes_all_turns")
    wait_for(lambda: len(jobs.counted("start")) == 1, "it computes")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert "a job set the interval in which threads take turns to 600 s" in worker.text


def test_stop_is_heard_that_found_no_room_among_other_signals(misuse: Misuse, jobs: Jobs):
    worker = misuse().wait_started()
    jobs.push(1, "MisuseAndStay", "crowds_signals_out")
    assert worker.ended() == 0
    assert len(jobs.queued()) == 1
    assert worker.text.count("stopping: ") == 1


def test_job_that_ignores_the_ends_of_children_hides_nobodys_from_others(misuse: Misuse, result: Result):
    worker = misuse().wait_started()
    assert result("forgets_its_children") == "1"
    wait_for(lambda: "a job set SIGCHLD to SIG_IGN" in worker.text, "it is said")


def test_signals_of_jobs_own_are_passed_on(misuse: Misuse, result: Result, jobs: Jobs):
    misuse().wait_started()
    assert result("event_loop_that_hears") == "heard"


def test_ttin_tells_where_a_start_is_stuck(misuse: Misuse, jobs: Jobs):
    worker = misuse(STARTS="import that blocks")
    wait_for(jobs.runs.exists, "it imports")
    worker.signal(signal.SIGTTIN)
    wait_for(lambda: "time.sleep(LONG_S)" in worker.text, "it tells")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


INHERITS = """
import os, signal, subprocess, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from trioworkers.process.signals import hearing
with hearing():
    print(subprocess.run(["false"]).returncode, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
print("is deaf")
"""


def test_what_whoever_started_us_blocked_or_ignored_makes_nobody_deaf():
    told = subprocess.run([sys.executable, "-c", INHERITS], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (told.returncode, told.stdout) == (0, "1\n"), told.stderr


FAILS_TO_OBEY = """
import os, signal, trio
from trioworkers.process.signals import hearing

class Worker:
    shutdown_timeout_s = 5.0
    asked = trio.Event()

    def quiet(self):
        self.asked.set()
        raise OSError("can't")

async def main():
    ear.attend(Worker())
    ear.start(print, 5.0)
    os.kill(os.getpid(), signal.SIGTSTP)
    await Worker.asked.wait()
    await trio.sleep(0.01)
    print("goes on")

with hearing() as ear, ear.guarding():
    trio.run(main)
"""


def test_signal_that_can_not_be_obeyed_does_not_end_the_event_loop():
    command = [sys.executable, "-c", FAILS_TO_OBEY]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=PATIENCE_S)
    assert (told.returncode, told.stdout) == (0, "goes on\n"), told.stderr


MADE_IMPATIENT = """
import os, time
from trioworkers.process.signals import hearing
with hearing() as ear:
    reader, writer = ear._reader.fileno(), ear._writer.fileno()
    os.set_blocking(reader, False)
    os.set_blocking(writer, True)
    while os.get_blocking(writer) or not os.get_blocking(reader):
        time.sleep(0.01)
print("waits")
"""


def test_descriptors_of_signals_stay_as_they_have_to_be():
    """Else whoever hears them would keep a processor busy, or a signal would wait for it."""
    command = [sys.executable, "-c", MADE_IMPATIENT]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=PATIENCE_S)
    assert (told.returncode, told.stdout) == (0, "waits\n"), told.stderr
