"""The health port: what it answers, and that nobody who calls it can hold it up."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.errors import ConfigurationError
from trioworkers.health import Health, Pulse, health_of
from trioworkers.process import health
from trioworkers.process.health import Told, answer, read_address, serving_health

READY = Health(live=True, ready=True, drained=False, text="running, 3 running")


@contextmanager
def port_of(state: Health = READY) -> Iterator[int]:
    with serving_health("127.0.0.1:0", lambda: state) as port:
        yield port


def ask(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(4096):
            parts.append(part)
        return b"".join(parts)


def test_each_probe_has_its_answer():
    with port_of() as port:
        for path, status in (("live", b"200"), ("ready", b"200"), ("drained", b"503"), ("else", b"404"), ("", b"404")):
            said = ask(port, f"GET /{path}?x=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert said.startswith(b"HTTP/1.1 " + status), path
        assert ask(port, b"GET /live HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\nrunning, 3 running\n")
        head = ask(port, b"HEAD /ready HTTP/1.1\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert head.endswith(b"\r\n\r\n")
        assert ask(port, b"POST /live HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405")


def test_where_no_descriptor_is_free_it_waits_for_one(monkeypatch: pytest.MonkeyPatch):
    """A worker may need all that it may have; who calls the port meanwhile stays in the queue, and would keep a processor busy."""
    free = threading.Event()
    accept = socket.socket.accept

    def accept_if_free(self: socket.socket) -> object:
        if not free.is_set():
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", accept_if_free)
    monkeypatch.setattr(health, "sleep", lambda _: free.set())
    with port_of() as port:
        assert ask(port, b"GET /live HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_nobody_holds_it_up():
    with port_of() as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(health.MAX_CONNECTIONS + 10)]
        assert ask(port, b"GET /live HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert ask(port, b"x" * health.MAX_REQUEST).startswith(b"HTTP/1.1 405")
        for connection in idle:
            connection.settimeout(30)
            with suppress(ConnectionResetError):
                assert connection.recv(10) == b""  # dropped, sooner or later
            connection.close()
        assert ask(port, b"GET /ready HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200")


@given(st.binary(max_size=300))
def test_any_request_has_an_answer(request: bytes):
    assert answer(request, READY).startswith(b"HTTP/1.1 ")


def test_worker_is_what_it_last_said():
    told = Told()
    assert told.health() == Health(live=True, ready=False, drained=False, text="starting")
    told.tell(Pulse(registered=True, busy=2))
    assert (told.health().live, told.health().ready) == (True, True)
    assert health_of(Pulse(registered=False), 0.1) == Health(
        True, False, False, "no heartbeat reaches Redis, 0 running"
    )
    assert not health_of(Pulse(registered=True, quiet=True), 0.1).ready
    assert health_of(Pulse(registered=True, quiet=True), 0.1).drained
    assert not health_of(Pulse(registered=True, quiet=True, busy=1), 0.1).drained
    assert not health_of(Pulse(registered=True), 60).live
    assert health_of(Pulse(stopping=True), 60).live  # it cleans up, and has its own deadline


@pytest.mark.parametrize("address", ["", "host", "host:", "host:x", "h:70000", "[::1", "[::1]", "a b:1", "::1:80:"])
def test_what_is_no_address_is_refused(address: str):
    with pytest.raises(ConfigurationError, match="--health is HOST:PORT"):
        read_address(address)


def test_addresses_are_read():
    assert read_address(":80") == ("", 80)
    assert read_address("[::1]:80") == ("::1", 80)
    assert read_address("localhost:8080") == ("localhost", 8080)


def test_address_that_is_taken_is_said():
    with (
        port_of() as port,
        pytest.raises(ConfigurationError, match="can't be used"),
        serving_health(f"127.0.0.1:{port}", lambda: READY),
    ):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_without_a_host_every_address_of_this_machine_answers(address: str):
    try:
        socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with (
        serving_health(":0", lambda: READY) as port,
        socket.create_connection((address, port), timeout=30) as connection,
    ):
        connection.sendall(b"GET /live HTTP/1.1\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
