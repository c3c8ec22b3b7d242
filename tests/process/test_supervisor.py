"""The supervisor without workers: children that only say what workers say, and end as they are told."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from servers import ROOT, may_have_its_own_pids, wait_for

from trioworkers.health import Pulse, decode
from trioworkers.process import place, supervisor
from trioworkers.process.life import Life
from trioworkers.process.notify import Notifier
from trioworkers.process.supervisor import Supervisor

CHILD = """
import signal, socket, sys, time
link = socket.socket(fileno=int(sys.argv[-1]))
order = link.makefile().readline().strip()
state = {"quiet": 0, "stopping": 0, "terms": 0}
def term(*_):
    state["terms"] += 1
    state["stopping"] = int(order == "counts")
    if order == "counts" and state["terms"] == 2: sys.exit(9)
    if order not in ("stubborn", "counts"): sys.exit(0)
signal.signal(signal.SIGTSTP, lambda *_: state.update(quiet=1))
signal.signal(signal.SIGTERM, term)
def say(line):
    link.sendall(line.encode() + b"\\n")
say("hears")
if order == "wrong usage": sys.exit(2)
if order == "fails": sys.exit(7)
say("loaded")
if order == "large": ballast = bytearray(b"x") * (64 << 20)
while True:
    if order != "never ready": say(f"pulse 1 {state['quiet']} {state['stopping']} 0 0.1")
    if order == "told to stop" and state["stopping"]: sys.exit(0)
    if order == "told to stop": state["stopping"] = 1
    time.sleep(0.02)
"""


class Under:
    """A supervisor that runs in the main thread while `drive` runs beside it."""

    def __init__(self, orders: Callable[[int], str], count: int, notifier: Notifier, max_rss: int | None) -> None:
        self.started: list[Life] = []
        self.pages: list[Life] = []
        self.refusals: list[OSError] = []
        """What the next starts of workers fail with."""
        self._orders = orders
        self.supervisor = Supervisor(count, self._start, notifier, max_rss, self._start_page)

    def _start_page(self) -> Life:
        self.pages.append(Life("web", [sys.executable, "-S", "-c", CHILD], b"never ready", dict(os.environ)))
        return self.pages[-1]

    def _start(self, number: int, suffix: str) -> Life:
        if self.refusals:
            raise self.refusals.pop()
        order = self._orders(len(self.started)).encode()
        life = Life(f"{number}{suffix}", [sys.executable, "-S", "-c", CHILD], order, dict(os.environ))
        self.started.append(life)
        return life

    def living(self) -> list[Life]:
        return [life for life in self.started if life.status is None]

    def ready(self, *names: str) -> bool:
        return {life.name for life in self.living() if life.is_ready} == set(names)

    def run(self, drive: Callable[[Under], None] = lambda _: None) -> int:
        errors: list[BaseException] = []

        def beside() -> None:
            try:
                drive(self)
            except BaseException as error:  # noqa: BLE001 - raised below, in the test's thread
                errors.append(error)
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=beside)
        thread.start()
        status = self.supervisor.run()
        thread.join()
        if errors:
            raise errors[0]
        assert self.living() == []
        assert [life for life in self.pages if life.status is None] == []
        return status


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """But patient: on a busy machine whoever ends when told may take a while."""
    monkeypatch.setattr(place, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(place, "PATIENCE_S", 60.0)
    monkeypatch.setattr(supervisor, "PATIENCE_S", 60.0)
    monkeypatch.setattr(supervisor, "TICK_S", 0.02)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody has to be killed."""
    monkeypatch.setattr(place, "PATIENCE_S", 0.3)
    monkeypatch.setattr(supervisor, "PATIENCE_S", 0.3)


def under(*orders: str, count: int = 2, notifier: Notifier | None = None, max_rss: int | None = None) -> Under:
    """`orders`: of the first processes; those after them are plain ones."""
    return Under(
        lambda number: orders[number] if number < len(orders) else "", count, notifier or Notifier({}), max_rss
    )


def tell(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_stop_ends_all():
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2"), "both are ready")
        assert those.supervisor.health().ready
        tell(signal.SIGTERM)

    assert under().run(drive) == 0


def test_the_page_is_served_anew_however_its_process_ends_and_no_worker_waits_for_it():
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2") and those.pages, "both are ready, though the page never is")
        those.pages[0].kill()
        wait_for(lambda: len(those.pages) == 2, "another one serves")
        wait_for(lambda: those.pages[1].hears_signals, "it has begun")
        tell(signal.SIGHUP)
        wait_for(lambda: those.ready("1b", "2b"), "workers are replaced")
        wait_for(lambda: len(those.pages) == 3, "and so is it")
        assert those.supervisor.health().ready
        tell(signal.SIGTERM)

    those = under()
    assert those.run(drive) == 0
    assert [life.status for life in those.pages[:2]] == [-signal.SIGKILL, 0]


def test_who_does_not_stop_is_killed(impatient: None):
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2"), "both are ready")
        tell(signal.SIGTERM)

    those = under("stubborn")
    assert those.run(drive) == 0
    assert those.started[0].status == -signal.SIGKILL


def test_replacing_keeps_every_place_taken():
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2"), "both are ready")
        tell(signal.SIGHUP)
        ready_at_once = []

        def replaced() -> bool:
            ready_at_once.append(sum(life.is_ready and life.ends_by is None for life in those.living()))
            return those.ready("1b", "2b")

        wait_for(replaced, "both are replaced")
        assert min(ready_at_once) == 2
        tell(signal.SIGUSR2)
        wait_for(lambda: those.ready("1", "2"), "and once more, under the first names")
        tell(signal.SIGTERM)

    assert under().run(drive) == 0


def test_successor_that_fails_leaves_the_old_one_and_ends_the_replacing(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")

    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2"), "both are ready")
        tell(signal.SIGHUP)
        wait_for(lambda: "1 more are not replaced" in caplog.text, "it is given up")
        assert those.ready("1", "2")
        assert "process 1b ended with status 7 before it was ready: 1 stays" in caplog.text
        tell(signal.SIGHUP)
        wait_for(lambda: those.ready("1b", "2b"), "a later attempt succeeds")
        tell(signal.SIGTERM)

    assert under("", "", "fails").run(drive) == 0


def test_successor_of_one_that_crashes_meanwhile_takes_its_place(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")

    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2"), "both are ready")
        tell(signal.SIGHUP)
        wait_for(lambda: len(those.started) == 3 and those.started[2].is_loaded, "its successor is on the way")
        os.kill(those.started[0].pid, signal.SIGKILL)
        wait_for(lambda: "process 1 ended with signal 9; its successor is on the way" in caplog.text, "it is said")
        wait_for(lambda: those.ready("2b"), "the other one is replaced meanwhile")
        assert [life.name for life in those.living()] == ["1b", "2b"]
        assert not those.supervisor.health().ready
        tell(signal.SIGTERM)

    assert under("", "", "never ready").run(drive) == 0


def test_successor_that_is_never_ready_is_killed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(place, "READY_WITHIN_S", 0.3)

    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1"), "it is ready")
        tell(signal.SIGHUP)
        wait_for(lambda: "process 1b is not ready after" in caplog.text and len(those.living()) == 1, "it is killed")
        assert those.ready("1")
        tell(signal.SIGTERM)

    assert under("", "never ready", count=1).run(drive) == 0


def test_first_start_that_takes_long_is_told_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Redis may be away: none that followed would be ready sooner."""
    monkeypatch.setattr(place, "READY_WITHIN_S", 0.1)

    def drive(those: Under) -> None:
        wait_for(lambda: "process 1 is not ready after" in caplog.text, "it is told")
        wait_for(lambda: "process 2 is not ready after" in caplog.text, "of the other one, too")
        assert len(those.living()) == len(those.started) == 2
        tell(signal.SIGTERM)

    assert under("never ready", "never ready").run(drive) == 0
    assert caplog.text.count("is not ready after") == 2


def test_crashed_one_comes_back_and_the_rest_stays():
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2"), "both are ready")
        second = next(life for life in those.living() if life.name == "2")
        for _ in range(7):  # more often than what ends all at the start
            crashed = next(life for life in those.living() if life.name == "1")
            os.kill(crashed.pid, signal.SIGKILL)
            wait_for(lambda: crashed.status is not None and those.ready("1", "2"), "another one took its place")  # noqa: B023 - used at once
        assert second.status is None
        tell(signal.SIGTERM)

    assert under().run(drive) == 0


def test_five_failures_before_anything_was_ready_are_the_end(caplog: pytest.LogCaptureFixture):
    those = under(*["fails"] * 9, count=3)
    assert those.run() == 7
    assert len(those.started) == 5
    assert "giving up" in caplog.text


def test_wrong_usage_is_the_end_at_once_and_said_once():
    those = under(*["wrong usage"] * 9, count=8)
    assert those.run() == 2
    assert len(those.started) == 1


def full() -> OSError:
    """What the kernel says when there is no process left."""
    return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_process_that_cannot_be_started_is_tried_again_and_the_others_stay(caplog: pytest.LogCaptureFixture):
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2"), "both are ready")
        first, second = those.living()
        those.refusals = [full(), full(), full()]
        os.kill(first.pid, signal.SIGKILL)
        wait_for(lambda: not those.refusals and those.ready("1", "2"), "another one took its place in the end")
        assert second.status is None
        assert "no process can be started: Resource temporarily unavailable; tried again" in caplog.text
        tell(signal.SIGTERM)

    assert under().run(drive) == 0


def test_successor_that_cannot_be_started_leaves_the_old_one(caplog: pytest.LogCaptureFixture):
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2"), "both are ready")
        those.refusals = [full()]
        tell(signal.SIGHUP)
        wait_for(lambda: "1 more are not replaced" in caplog.text, "it is given up")
        assert those.ready("1", "2")
        assert "no process can be started: Resource temporarily unavailable; 1 stays" in caplog.text
        tell(signal.SIGHUP)
        wait_for(lambda: those.ready("1b", "2b"), "a later attempt succeeds")
        tell(signal.SIGTERM)

    assert under().run(drive) == 0


def test_no_process_at_all_is_the_end(caplog: pytest.LogCaptureFixture):
    those = under(count=2)
    those.refusals = [full() for _ in range(9)]
    assert those.run() == 1
    assert "giving up" in caplog.text


def test_term_while_processes_are_replaced_is_the_first_one_for_each(impatient: None):
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1"), "it is ready")
        tell(signal.SIGHUP)
        wait_for(lambda: those.started[0].ends_by is not None, "it was told to stop")
        tell(signal.SIGTERM)

    those = under("counts", "counts", count=1)
    assert those.run(drive) == 0
    # Else 9: a second one, by which a worker cancels what may run on for its shutdown timeout.
    assert [life.status for life in those.started] == [-signal.SIGKILL, -signal.SIGKILL]


def test_second_term_is_passed_on():
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1"), "it is ready")
        tell(signal.SIGTERM)
        wait_for(lambda: those.started[0].pulse.stopping, "it has heard that: else two that wait for it become one")
        tell(signal.SIGTERM)

    those = under("counts", count=1)
    assert those.run(drive) == 0
    assert those.started[0].status == 9


class Told:
    """A process as a place sees it, without one."""

    began_at, name, status = 0.0, "x", 0
    was_told_to_stop = False

    def __init__(self) -> None:
        self.is_ready = self.is_stopped = self.has_ended = False

    def see(self, now: float) -> bool:
        return self.has_ended

    def stop(self, now: float, patience_s: float) -> None:
        assert not self.is_stopped, "a second signal"
        self.is_stopped = True


def changing() -> tuple[place.Place, Told, Told]:
    """A place whose process is ready, and whose successor isn't yet."""
    lives = [Told(), Told()]
    its = place.Place(1, lambda *_: cast(Life, lives.pop(0)))
    its.step(0.0, may_start=True)
    old, new = cast(Told, its.current), lives[0]
    old.is_ready = True
    its.replace(1.0)
    its.step(1.0, may_start=True)
    return its, old, new


def test_successor_that_is_ready_when_all_are_told_to_stop_follows_nobody():
    its, old, new = changing()
    for life in (old, new):
        life.stop(2.0, 1.0)
    new.is_ready = True
    its.step(2.0, may_start=False)
    old.has_ended = new.has_ended = True
    its.step(3.0, may_start=False)
    assert [*its.lives()] == []


def test_successor_of_one_that_people_told_to_stop_is_stopped():
    its, old, new = changing()
    old.was_told_to_stop = old.has_ended = True
    its.step(2.0, may_start=True)
    assert its.is_closed
    assert new.is_stopped
    new.is_ready = True
    its.step(3.0, may_start=True)
    new.has_ended = True
    its.step(4.0, may_start=True)
    assert [*its.lives()] == []
    assert not its.gave_up


def test_whom_people_told_to_stop_is_not_replaced():
    those = under("told to stop", "told to stop")
    assert those.run() == 0
    assert len(those.started) == 2


def test_quiet_holds_for_those_that_come_later():
    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2"), "both are ready")
        tell(signal.SIGTSTP)
        wait_for(lambda: all(life.pulse.quiet for life in those.living()), "both are quiet")
        crashed = those.living()[0]
        os.kill(crashed.pid, signal.SIGKILL)
        wait_for(lambda: len(those.started) == 3 and those.started[2].pulse.quiet, "so is the next one")
        health = those.supervisor.health()
        assert (health.live, health.ready) == (True, False)
        tell(signal.SIGTERM)

    assert under().run(drive) == 0


def test_grown_process_is_replaced_and_no_other_within_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(supervisor, "LOOK_AT_MEMORY_S", 0.05)

    def drive(those: Under) -> None:
        wait_for(
            lambda: sorted(life.name for life in those.living() if life.is_ready) in (["1b", "2"], ["1", "2b"]), "one"
        )
        looked_at = those.supervisor._memory_at
        wait_for(lambda: those.supervisor._memory_at > looked_at + 0.1, "it looks on")
        assert len(those.started) == 3
        tell(signal.SIGTERM)

    assert under("large", "large", "large", max_rss=48 << 20).run(drive) == 0
    (said,) = [line for line in caplog.messages if " MB" in line]
    assert re.fullmatch(
        r"process \d has \d+ MB, \d+ s after its start: --max-rss is less than the App needs: replaced", said
    )


def test_largest_of_those_that_have_grown_is_replaced_first(monkeypatch: pytest.MonkeyPatch):
    """Not the first one each minute, while the others grow on."""
    have_grown = threading.Event()
    sizes = {"1": 60 << 20, "2": 80 << 20, "3": 70 << 20}
    monkeypatch.setattr(supervisor, "LOOK_AT_MEMORY_S", 0.01)
    monkeypatch.setattr(Life, "rss_bytes", lambda life: sizes.get(life.name, 0) if have_grown.is_set() else 0)

    def drive(those: Under) -> None:
        wait_for(lambda: those.ready("1", "2", "3"), "all are ready")
        have_grown.set()
        wait_for(lambda: those.ready("1", "2b", "3"), "the largest one")
        tell(signal.SIGTERM)

    assert under(count=3, max_rss=48 << 20).run(drive) == 0


@contextmanager
def service_manager(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """The socket of one, and what it has heard."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(folder / "notify"))
        receiver.setblocking(False)
        heard: list[str] = []

        def so_far() -> str:
            try:
                while True:
                    heard.append(receiver.recv(1000).decode())
            except BlockingIOError:
                return "|".join(heard)

        yield str(folder / "notify"), so_far


def test_service_manager_hears_all_of_it(tmp_path: Path):
    with service_manager(tmp_path) as (address, heard):
        environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
        notifier = Notifier(environment)
        assert environment == {}  # children are none of its business

        def drive(those: Under) -> None:
            wait_for(lambda: "READY=1" in heard(), "it says that it is ready")
            assert all(life.is_ready for life in those.living())
            tell(signal.SIGHUP)
            wait_for(lambda: heard().count("READY=1") == 2, "and again, replaced")
            before = heard().count("WATCHDOG=1")
            wait_for(lambda: heard().count("WATCHDOG=1") > before, "the watchdog is fed")
            tell(signal.SIGTERM)

        assert under(notifier=notifier).run(drive) == 0
        said = heard()
        assert said.index("READY=1") < said.index("RELOADING=1\nMONOTONIC_USEC=") < said.rindex("READY=1")
        assert said.index("RELOADING=1") < said.index("EXTEND_TIMEOUT_USEC=60000000") < said.rindex("READY=1")
        assert said.endswith("STOPPING=1") or "STOPPING=1" in said.rpartition("READY=1")[2]


def test_service_manager_hears_that_a_reload_was_given_up_and_when_the_next_one_works(tmp_path: Path):
    with service_manager(tmp_path) as (address, heard):
        notifier = Notifier({"NOTIFY_SOCKET": address})

        def drive(those: Under) -> None:
            wait_for(lambda: "READY=1\nSTATUS=3 processes" in heard(), "it says that it is ready")
            tell(signal.SIGHUP)
            text = "READY=1\nSTATUS=3 processes, 2 of them not replaced: the reload was given up"
            wait_for(lambda: text in heard().split("|"), "it says that it is over, and how")
            tell(signal.SIGHUP)
            wait_for(lambda: heard().split("|").count("READY=1\nSTATUS=3 processes") == 2, "all are replaced")
            tell(signal.SIGTERM)

        assert under("", "", "", "", "fails", count=3, notifier=notifier).run(drive) == 0


def test_reload_is_said_to_go_on_as_long_as_it_does(tmp_path: Path):
    with service_manager(tmp_path) as (address, heard):
        notifier = Notifier({"NOTIFY_SOCKET": address})
        for now in range(1000, 1060):
            notifier.still_reloading(now)
        assert heard().count("EXTEND_TIMEOUT_USEC=60000000") == 4


def test_watchdog_is_not_ours_if_it_is_another_pid_s():
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "often"}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "1000000"}).watchdog_s == 0.5


def test_pulse_is_read_as_it_was_written_and_nothing_else_is():
    pulse = Pulse(registered=True, quiet=True, busy=7, timeout_s=1.5)
    assert decode(pulse.encode()) == pulse
    for line in ("", "pulse", "pulse 1 1 1 x 2", "pulse 1 1 1 1 x", "beat 1 1 1 1 1", "pulse 1 1 1 1 1 1"):
        assert decode(line) is None


def test_parent_knows_no_trio_no_app_and_no_redis():
    script = "import sys, trioworkers.cli.processes, trioworkers.process.logs; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    modules = set(told.stdout.split())
    assert not modules & {"trio", "anyio", "coredis", "redis", "httpx", "trioworkers.app", "trioworkers.engine.worker"}


AS_FIRST = """
import sys, os, signal, threading, time
sys.path[:0] = {paths!r}
import test_supervisor as tests
from pathlib import Path

def drive(those):
    tests.wait_for(lambda: those.ready("1"), "it is ready")
    stranger = os.fork()  # as what a job's process has left to us
    if stranger == 0:
        os._exit(0)
    tests.wait_for(lambda: not Path(f"/proc/{{stranger}}").exists(), "it doesn't stay a zombie")
    os.kill(os.getpid(), signal.SIGTERM)

assert os.getpid() == 1
those = tests.under(count=1)
print("status", those.run(drive))
"""


@pytest.mark.skipif(not may_have_its_own_pids(), reason="may not make a namespace of pids")
def test_first_process_of_a_container_leaves_no_zombies():
    script = AS_FIRST.format(paths=[str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert told.stdout.strip().endswith("status 0"), told.stderr
