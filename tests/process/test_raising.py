"""Signal handlers of the program's: what they raise, and what `signal` says of them."""

from __future__ import annotations

import signal
import socket

import pytest
import trio

from trioworkers.process.guard import Guard
from trioworkers.process.raising import Contained


class Late(Exception):
    pass


def raises(*_: object) -> None:
    raise Late


@pytest.fixture
def guard():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    before = signal.signal(signal.SIGUSR1, raises)
    try:
        with Guard((signal.SIGUSR2,), (), ours.fileno()).on():
            yield
        assert signal.getsignal(signal.SIGUSR1) is raises
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        ours.close()
        theirs.close()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 1])
async def test_what_is_raised_outside_jobs_goes_nowhere(guard: None, number: int):
    called: list[int] = []

    def raises_too(number: int, _: object) -> None:
        called.append(number)
        raise Late

    signal.signal(number, raises_too)
    signal.raise_signal(number)
    await trio.lowlevel.checkpoint()
    signal.raise_signal(number)
    assert called == [number, number]
    signal.signal(number, raises)


async def test_handler_that_was_there_before_is_contained(guard: None):
    assert isinstance(signal.getsignal(signal.SIGUSR1), Contained)
    signal.raise_signal(signal.SIGUSR1)


def test_who_replaces_a_handler_is_given_what_was_set(guard: None):
    assert signal.signal(signal.SIGUSR1, signal.SIG_IGN) is raises
    assert signal.signal(signal.SIGUSR1, raises) is signal.SIG_IGN
    assert signal.signal(signal.SIGUSR1, raises) is raises
