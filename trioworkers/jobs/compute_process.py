"""One process in which `run_cpu` computes, as the worker sees it. What runs in it is `compute_child.py`.

It leads a process group, which is killed as a whole: what a function starts ends with it. Only the end of the process itself counts as its
end: it may close its descriptors and live, and children of its may keep them open when it is gone.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing import process as multiprocessing_process
from pathlib import Path
from typing import Any

import trio

from trioworkers.errors import CPUWorkerDied
from trioworkers.jobs import compute_child
from trioworkers.jobs.compute_child import FAILED, LENGTH_BYTES, READY

LAST_WORDS_S = 0.2
"""What a process has sent before it ended is still read."""


class EndedEarly(Exception):
    """It ended before it could compute; how, in words."""


class ComputeProcess:
    """Started by `start`; `tend` runs as long as it does."""

    def __init__(self, process: trio.Process, link: trio.SocketStream) -> None:
        self._process = process
        self._link = link
        self.ended = trio.Event()
        self.status = ""
        """How it ended, in words."""
        self._listening: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<ComputeProcess {self._process.pid}: {'running' if self._process.returncode is None else 'ended'}>"

    @classmethod
    async def start(cls, nursery: trio.Nursery) -> ComputeProcess:
        """Start one, tended in `nursery`. Raises EndedEarly, or CPUWorkerDied if the program can't be imported in it. Cancelled, it is killed."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
            command += ["-P", str(Path(compute_child.__file__)), str(theirs.fileno()), str(os.getpid())]
            process = await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
            )
        self = cls(process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        living.add(self)
        nursery.start_soon(self.tend)
        reply = await self.ask(pickle.dumps(_preparation()))
        if reply is None:
            raise EndedEarly(self.status)
        if reply != READY:
            await self.destroy()
            text = reply.removeprefix(FAILED).decode(errors="replace")
            raise CPUWorkerDied(f"no process for run_cpu can import the program: {text}")
        return self

    async def ask(self, work: bytes) -> bytes | None:
        """Send it `work`; what it replies. None: it ended, as `status` says, or can't reply any more. Cancelled, it is killed."""
        reply: bytes | None = None
        try:
            with trio.CancelScope() as self._listening:
                with suppress(trio.BrokenResourceError):  # it is ending; perhaps it has said something before
                    await self._link.send_all(len(work).to_bytes(LENGTH_BYTES, "big") + work)
                reply = await self._receive()
            if reply is None:
                await self._find_out_why()
        except BaseException:
            await self.destroy()
            raise
        finally:
            self._listening = None
            if self.ended.is_set():
                self._link.socket.close()
        return reply

    async def _find_out_why(self) -> None:
        with trio.move_on_after(LAST_WORDS_S):
            await self.ended.wait()
        if not self.ended.is_set():
            self.status = "closed its descriptors, and was killed"
            await self.destroy()

    def kill(self) -> None:
        """Kill it with all that it has started."""
        # The group outlives its leader as long as anybody is in it; its number is given to nobody else meanwhile.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # a function may have moved it into another group

    async def destroy(self) -> None:
        """Kill it, and wait until it is gone. Shielded: nobody else would wait for it."""
        self.kill()
        with trio.CancelScope(shield=True):
            await self.ended.wait()

    async def retire(self, patience_s: float) -> None:
        """Let it leave by itself, which takes `patience_s` seconds at most."""
        # Not closed: that is what the end of our process looks like.
        with suppress(OSError):
            self._link.socket.shutdown(socket.SHUT_WR)
        with trio.move_on_after(patience_s):
            await self.ended.wait()
        await self.destroy()

    async def tend(self) -> None:
        """Wait until it ends. Then nobody waits for its words any longer, and what it has left behind is killed."""
        with trio.CancelScope(shield=True):  # its pool sees to it that it ends
            code = await self._process.wait()
        self.kill()
        living.discard(self)
        self.status = self.status or (f"ended with status {code}" if code >= 0 else f"was ended by signal {-code}")
        if self._listening is not None:
            self._listening.deadline = trio.current_time() + LAST_WORDS_S
        else:
            self._link.socket.close()
        self.ended.set()

    async def _receive(self) -> bytes | None:
        head = await self._exactly(LENGTH_BYTES)
        return None if head is None else await self._exactly(int.from_bytes(head, "big"))

    async def _exactly(self, size: int) -> bytes | None:
        found = bytearray()
        while len(found) < size:
            try:
                part = await self._link.receive_some(min(size - len(found), 1 << 20))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not part:
                return None
            found += part
        return bytes(found)


living: set[ComputeProcess] = set()
"""Those of this process, for whoever has to end it in a hurry."""


def kill_all() -> None:
    """Kill all that live. From any thread."""
    for process in tuple(living):
        process.kill()


def _preparation() -> dict[str, Any]:
    """What `multiprocessing.spawn.prepare` wants to know so that the program's functions are found there by their names."""
    try:
        folder = os.getcwd()  # noqa: PTH109 - as it is written there
    except OSError:
        # It was deleted, by a deployment that leaves a few releases, say: the program's modules may be elsewhere.
        folder = ""
    main = sys.modules["__main__"]
    how: dict[str, Any] = {
        "name": "trioworkers-cpu",
        "authkey": bytes(multiprocessing_process.current_process().authkey),
        "sys_path": [each or folder for each in sys.path],
        "sys_argv": sys.argv,
    }
    if folder:
        how["dir"] = folder
    name, path = getattr(getattr(main, "__spec__", None), "name", None), getattr(main, "__file__", None)
    if name is not None:
        how["init_main_from_name"] = name
    elif path is not None:
        how["init_main_from_path"] = str(Path(folder, path))
    return how
