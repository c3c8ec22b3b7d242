"""Jobs that misuse their process: fork, leave threads and children behind, take signals away. Each notes what it did in the file RUNS."""

from __future__ import annotations

import _thread
import asyncio
import atexit
import builtins
import ctypes
import faulthandler
import logging
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from signal import set_wakeup_fd as unguarded_wakeup_fd
from signal import signal as unguarded_signal
from types import FrameType

import trio
from process_app import write

from trioworkers import App, Context

LONG_S = 600
FORK = multiprocessing.get_context("fork")
STARTS = os.environ.get("STARTS")

if STARTS == "import that blocks":
    write("importing")
    time.sleep(LONG_S)
if STARTS == "import that ignores TERM":
    unguarded_signal(signal.SIGTERM, signal.SIG_IGN)


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    if STARTS == "lifespan that blocks":
        write("starting")
        time.sleep(LONG_S)  # noqa: ASYNC251 - this is the fault
    if STARTS == "lifespan that does not give up":
        with trio.CancelScope(shield=True):
            write("starting")
            await trio.sleep(LONG_S)
    yield
    if STARTS == "lifespan whose end blocks":
        time.sleep(LONG_S)  # noqa: ASYNC251 - as above


app = App(lifespan=lifespan)


@app.handler("q", "Misuse")
async def misuse(ctx: Context, how: str) -> None:
    write(f"start {ctx.job.jid}")
    result = WAYS[how]()
    write(f"end {ctx.job.jid} {str(result).replace(' ', '_')}")


@app.handler("q", "Stay")
async def stay(ctx: Context) -> None:
    write(f"start {ctx.job.jid}")
    await trio.sleep(LONG_S)


@app.handler("q", "MisuseAndStay")
async def misuse_and_stay(ctx: Context, how: str) -> None:
    write(f"start {ctx.job.jid}")
    WAYS[how]()
    await trio.sleep(LONG_S)


@app.handler("q", "WaitInHope")
async def wait_in_hope(ctx: Context) -> None:
    write(f"start {ctx.job.jid}")
    await trio.lowlevel.wait_task_rescheduled(lambda _: 1 / 0)  # type: ignore[arg-type, return-value]


@app.handler("q", "BreakAndBlock")
async def break_and_block(ctx: Context) -> None:
    nursery_of_the_program_cancelled()
    await trio.sleep(0.2)
    write(f"start {ctx.job.jid}")
    block()


@app.handler("q", "Compute")
async def compute(ctx: Context, how: str) -> None:
    write(f"start {ctx.job.jid}")
    await ctx.run_cpu(COMPUTATIONS[how], ctx.job.jid)
    write(f"end {ctx.job.jid}")


@app.handler("q", "ComputeUntilItMoves")
async def compute_until_it_moves(ctx: Context) -> None:
    write(f"start {ctx.job.jid}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ctx.run_cpu, joins_another_group)
        while "moved" not in await trio.Path(os.environ["RUNS"]).read_text():
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    write(f"end {ctx.job.jid}")


@app.handler("q", "ComputeFor", timeout=10)
async def compute_for(ctx: Context, how: str) -> None:
    write(f"start {ctx.job.jid}")
    await ctx.run_cpu(COMPUTATIONS[how], ctx.job.jid)


@app.handler("q", "ComputeStubbornly")
async def compute_stubbornly(ctx: Context, how: str) -> None:
    write(f"start {ctx.job.jid}")
    with trio.CancelScope(shield=True):
        await ctx.run_cpu(COMPUTATIONS[how], ctx.job.jid)


# ── computations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def computes_nothing(jid: str) -> None:
    pass


def with_grandchildren(jid: str) -> None:
    os.fork()
    subprocess.Popen(["sleep", str(LONG_S)])
    write(f"group {os.getpgrp()}")
    while True:
        pass


def leaves_things_behind(jid: str) -> None:
    threading.Thread(target=time.sleep, args=(LONG_S,)).start()
    ThreadPoolExecutor().submit(time.sleep, LONG_S)
    ProcessPoolExecutor().submit(time.sleep, LONG_S)
    atexit.register(time.sleep, LONG_S)
    write(f"group {os.getpgrp()}")


def leaves_a_child_behind(jid: str) -> None:
    subprocess.Popen(["sleep", str(LONG_S)])
    write(f"group {os.getpgrp()}")


def joins_another_group() -> None:
    os.setpgid(0, os.getpgid(os.getppid()))
    write(f"moved {os.getpid()}")
    time.sleep(LONG_S)


def dies_of_term(jid: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    write(f"computes {jid}")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LONG_S)


def makes_much(jid: str) -> bytes:
    return bytes(1 << 24)


def closes_descriptors(jid: str) -> None:
    os.closerange(3, 256)
    write(f"group {os.getpgrp()}")
    time.sleep(LONG_S)


COMPUTATIONS = {
    each.__name__: each
    for each in (
        computes_nothing,
        with_grandchildren,
        leaves_things_behind,
        leaves_a_child_behind,
        dies_of_term,
        closes_descriptors,
        makes_much,
    )
}


# ── children, and the signals that they get ────────────────────────────────────────────────────────────────────────────


def process() -> object:
    child = FORK.Process(target=time.sleep, args=(LONG_S,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


def process_interrupted() -> object:
    child = FORK.Process(target=_exits_when_interrupted)
    child.start()
    child.join()
    return child.exitcode


def _exits_when_interrupted() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(LONG_S)
    except KeyboardInterrupt:
        os._exit(3)


def pool() -> object:
    with ProcessPoolExecutor(1, mp_context=FORK) as executor:
        child = executor.submit(os.getpid).result()
        os.kill(child, signal.SIGTERM)
        error = executor.submit(time.sleep, LONG_S).exception()
    return type(error).__name__


def preexec() -> object:
    with_code = {"preexec_fn": lambda: os.kill(os.getpid(), signal.SIGTERM)}
    return subprocess.Popen(["true"], **with_code).wait()  # type: ignore[call-overload]


def plain_fork() -> object:
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def thread_fork() -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(plain_fork()))
    thread.start()
    thread.join()
    return found[0]


def fork_that_comes_back() -> object:
    child = os.fork()
    return "child" if child == 0 else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def child_with_our_descriptors() -> object:
    child = FORK.Process(target=time.sleep, args=(LONG_S,), daemon=True)
    child.start()
    return child.pid


# ── what is in the way of the end ──────────────────────────────────────────────────────────────────────────────────────


def thread() -> None:
    threading.Thread(target=time.sleep, args=(LONG_S,)).start()


def executor() -> None:
    ThreadPoolExecutor().submit(time.sleep, LONG_S)


def exit_function() -> None:
    atexit.register(time.sleep, LONG_S)


def child() -> None:
    FORK.Process(target=time.sleep, args=(LONG_S,)).start()


class _Lingers:
    def __del__(self) -> None:
        time.sleep(LONG_S)


def object_that_lingers() -> None:
    builtins.kept = _Lingers()  # type: ignore[attr-defined]


def way_out_that_lingers() -> None:
    """As garbage does whose destructor blocks, if Python happens to look for some when the worker is gone."""
    signal.pthread_sigmask = lambda *_: time.sleep(LONG_S)  # type: ignore[assignment]


def lock_of_the_log_kept() -> None:
    """As by a `dictConfig` whose handler doesn't reach its server."""
    lock = logging._lock  # type: ignore[attr-defined]
    threading.Thread(target=lambda: (lock.acquire(), time.sleep(LONG_S)), daemon=True).start()
    time.sleep(1.2)  # longer than whoever hears signals waits before it looks whether our log is heard


def streams_that_linger() -> None:
    sys.stdout.flush = lambda: time.sleep(LONG_S)  # type: ignore[method-assign]


def busy_pool() -> None:
    ProcessPoolExecutor(1, mp_context=FORK).submit(time.sleep, LONG_S)


def no_room_for_threads() -> str:
    """As where a container may have no more of them."""
    threading.stack_size(1 << 47)
    return _threads_that_can_be_started()


def no_room_for_threads_and_a_timer() -> str:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    return no_room_for_threads()


def no_hook_for_threads() -> str:
    """Then Python doesn't even make one."""
    threading.excepthook = None  # type: ignore[assignment]
    return _threads_that_can_be_started()


def threads_that_never_run() -> str:
    """As where memory is so short that a new thread ends before it begins: Python's `start` waits for it for ever."""
    threading.Thread._bootstrap = lambda _: None  # type: ignore[attr-defined]
    return "none"


def _threads_that_can_be_started() -> str:
    try:
        threading.Thread(target=print, daemon=True).start()
    except RuntimeError:
        return "none"
    return "some"


def block() -> None:
    time.sleep(LONG_S)


# ── what would make the worker deaf ────────────────────────────────────────────────────────────────────────────────────


def nothing() -> None:
    pass


def ignore() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def default() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def wakeup() -> None:
    signal.set_wakeup_fd(-1)


def event_loop() -> None:
    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
        await asyncio.sleep(0)

    asyncio.run(main())


def shallow() -> None:
    depth = 50
    while sys.getrecursionlimit() != depth:
        try:
            sys.setrecursionlimit(depth)
        except RecursionError:  # we are deeper just now
            depth += 5


def event_loop_that_hears() -> object:
    async def main() -> str:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, heard.set)
        os.kill(os.getpid(), signal.SIGUSR2)
        await heard.wait()
        return "heard"

    return asyncio.run(main())


def handler_of_their_own() -> None:
    signal.signal(signal.SIGTERM, lambda *_: write("theirs"))


def dumps_on_term() -> None:
    faulthandler.register(signal.SIGTERM, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - it is to stay open


def profiles_what_settles() -> None:
    def profile(frame: FrameType, *_: object) -> None:
        if "settle" in frame.f_code.co_filename:
            raise SystemExit(3)

    sys.setprofile(profile)


def crowds_signals_out() -> None:
    """As a profiler's timer does while something computes that lets no thread run: the wake-up descriptor has room for some hundreds."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    unguarded_raise = ctypes.PyDLL(None)["raise"]
    for _ in range(1000):
        unguarded_raise(signal.SIGALRM)
    unguarded_raise(signal.SIGTERM)


def takes_all_turns() -> None:
    sys.setswitchinterval(LONG_S)
    while True:
        pass


def forgets_its_children() -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    return subprocess.run(["false"], check=False).returncode


def folder_deleted() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)  # noqa: PTH106 - as above


def sockets_that_time_out() -> None:
    socket.setdefaulttimeout(0.0)


def closed_streams() -> None:
    sys.stderr.close()
    sys.stdout.close()


def no_streams() -> None:
    sys.stderr = sys.stdout = None  # type: ignore[assignment]


def wakeup_that_blocks() -> str:
    reader, writer = os.pipe()
    refused = []
    for what in (writer, None, "3"):
        try:
            signal.set_wakeup_fd(what)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            refused.append(type(error).__name__)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    os.write(writer, bytes(1 << 16))  # it is full now, and kept open by the name below
    os.set_blocking(writer, True)
    builtins.kept = reader  # type: ignore[attr-defined]
    return ",".join(refused)


def raises_in_all_threads() -> None:
    """As libraries do that end threads."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            ident = ctypes.c_ulong(thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))


def ignore_unguarded() -> None:
    unguarded_signal(signal.SIGTERM, signal.SIG_IGN)


def wakeup_put_back_unguarded() -> None:
    unguarded_wakeup_fd(unguarded_wakeup_fd(-1))


def nursery_of_the_program_cancelled() -> None:
    task = trio.lowlevel.current_task()
    while (nursery := task.parent_nursery) is not None and nursery.parent_task.parent_nursery is not None:
        outermost, task = nursery, nursery.parent_task
    outermost.cancel_scope.cancel()


def system_task_that_fails() -> None:
    async def fail() -> None:
        raise ValueError("no")

    trio.lowlevel.spawn_system_task(fail)


def main_thread_told_to_exit() -> None:
    """As debuggers and some time-out libraries do it."""

    def tell() -> None:
        time.sleep(0.2)
        ident = ctypes.c_ulong(threading.main_thread().ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))

    threading.Thread(target=tell, daemon=True).start()


def log_that_interrupts() -> None:
    def interrupt(*_: object, **__: object) -> logging.LogRecord:
        raise KeyboardInterrupt

    logging.setLogRecordFactory(interrupt)


class _Unwanted(BaseException):
    pass


def log_that_raises_what_ends_programs() -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise _Unwanted

    logging.getLogger("trioworkers").addFilter(refuse)


# ── what gets past all of it ───────────────────────────────────────────────────────────────────────────────────────────


class Impatient(Exception):
    """What an alarm raises."""


def _impatiently(*_: object) -> None:
    raise Impatient


def _exits(*_: object) -> None:
    sys.exit(7)


def alarm_that_raises() -> None:
    signal.signal(signal.SIGALRM, _impatiently)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)


def alarm_that_exits() -> None:
    signal.signal(signal.SIGALRM, _exits)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)


def alarm_in_its_own_time() -> str:
    signal.signal(signal.SIGALRM, _impatiently)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)  # on a busy machine it is over at once
        time.sleep(LONG_S)
    except Impatient:
        return "ended"
    return "slept"


def alarm_without_a_handler() -> str:
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.05)
    signal.setitimer(signal.ITIMER_PROF, 0.05)
    for number in (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF):
        before = signal.signal(number, signal.SIG_DFL)
    return before.name if isinstance(before, signal.Handlers) else "a function"


def alarm_in_a_forked_child() -> object:
    child = os.fork()
    if child == 0:
        signal.alarm(1)
        time.sleep(LONG_S)
        os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def pipe_given_back() -> str:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        os.write(writer, b"x")
    except BrokenPipeError:
        return "told"
    return "written"


def stop_that_exits() -> None:
    signal.signal(signal.SIGTERM, _exits)


def exit_function_that_exits() -> None:
    atexit.register(os._exit, 7)


def clocks_stand_still() -> None:
    time.time = time.monotonic = time.perf_counter = lambda: 1.0


def clocks_are_broken() -> None:
    time.time = time.monotonic = time.perf_counter = lambda: 1 / 0


def descriptors_closed() -> None:
    os.closerange(0, 21)


def descriptors_closed_but_the_first() -> None:
    os.closerange(3, 256)


def term_to_itself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def term_raised() -> None:
    signal.raise_signal(signal.SIGTERM)


def term_to_its_thread() -> None:
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


def main_interrupted() -> None:
    _thread.interrupt_main()


def no_more_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    unguarded_signal(signal.SIGTERM, signal.SIG_IGN)


def term_to_its_group() -> None:
    """As by who ends a command that he started without a group of its own, and all that it has started."""
    os.setpgid(0, 0)
    os.killpg(os.getpgid(subprocess.Popen(["sleep", str(LONG_S)]).pid), signal.SIGTERM)


def dump_asked_for() -> None:
    signal.raise_signal(signal.SIGTTIN)


def term_from_a_thread() -> None:
    threading.Thread(target=term_to_itself).start()


def sockets_shut_down() -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - as above
        with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as end:
            end.shutdown(socket.SHUT_RDWR)


def sockets_closed() -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - as above
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket"):  # noqa: PTH115 - as above
                os.close(int(name))


def streams_closed() -> None:
    os.closerange(0, 3)


WAYS = {
    function.__name__: function
    for function in list(globals().values())
    if getattr(function, "__module__", "") == __name__ and not isinstance(function, type) and callable(function)
}

if __name__ == "__main__":
    app.run()
