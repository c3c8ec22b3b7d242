"""Why there is no connection: in the exception, in the failure of a call, in the log and in the payload."""

from __future__ import annotations

import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from trioworkers import App, CallFailed, Context, FanOutError, HostPaused, Http, lookup, testing
from trioworkers.http import open_client
from trioworkers.http.race import first_of
from trioworkers.http.reasons import reason, with_reason
from trioworkers.jobs.fan_out import open_fan_out
from trioworkers.jobs.progress import Progress
from trioworkers.outcome import Retry, Snooze
from trioworkers.retry import decide
from trioworkers.wire.decode import decode


@asynccontextmanager
async def listening(converse: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, converse, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def rude(stream: trio.SocketStream) -> None:
    await stream.receive_some(1)


async def chatty(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" * 10)
    await trio.sleep_forever()


@asynccontextmanager
async def encrypted(*names: str) -> AsyncIterator[int]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)

    async def converse(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await trio.SSLStream(stream, context, server_side=True).do_handshake()

    async with listening(converse) as port:
        yield port


def unresolved(error: OSError) -> Callable[[str, int], list[str]]:
    def resolve(host: str, port: int) -> list[str]:
        raise error

    return resolve


async def failure(url: str, **options: object) -> tuple[httpx.TransportError, str]:
    """The exception of a plain call, and what a fan-out says of it."""
    async with open_client(Http(**options)) as client:  # type: ignore[arg-type]
        with pytest.raises(httpx.TransportError) as raised:
            await client.get(url)
        with pytest.raises(FanOutError) as failed:
            async with open_fan_out(client, "jid", Progress()) as fan:
                fan.get("call", url)
        (call,) = failed.value.exceptions
        assert not call.permanent
        assert call.reason.startswith(f"{type(raised.value).__name__}: {raised.value}"[:60])
        return raised.value, str(failed.value)


async def test_refused():
    for url in ("http://127.0.0.1:1/", "https://127.0.0.1:1/"):
        error, told = await failure(url)
        assert isinstance(error, httpx.ConnectError)
        assert str(error) == "127.0.0.1:1: Connection refused"
        assert "127.0.0.1:1: Connection refused" in told


async def test_refused_by_a_proxy():
    error, told = await failure("http://h.example/", proxy="http://127.0.0.1:1")
    assert isinstance(error, httpx.ConnectError)
    assert "Connection refused" in str(error)
    assert "Connection refused" in told


async def test_refused_says_a_client_of_ones_own():
    async with httpx.AsyncClient() as client:
        with pytest.raises(FanOutError) as failed:
            async with open_fan_out(client, "jid", Progress()) as fan:
                fan.get("call", "http://127.0.0.1:1/")
        assert "failed: Connection refused (temporary" in str(failed.value)


async def test_name_unknown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lookup, "_resolve", unresolved(socket.gaierror(socket.EAI_NONAME, "Name or service not known")))
    error, told = await failure("http://h.example/")
    assert str(error) == "h.example:80: its name is unknown"
    assert "its name is unknown" in told


async def test_name_server_in_trouble(monkeypatch: pytest.MonkeyPatch):
    trouble = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    monkeypatch.setattr(lookup, "_resolve", unresolved(trouble))
    error, _ = await failure("https://h.example/")
    assert str(error) == "h.example:443: its name can't be looked up: Temporary failure in name resolution"


async def test_name_server_that_says_nothing(held_names: set[str]):
    held_names.add("h.example")
    error, _ = await failure("http://h.example/", timeout=0.05)
    assert isinstance(error, httpx.ConnectTimeout)
    assert "h.example:80: no name server has answered for 'h.example' within 0.05 s" in str(error)


async def test_no_answer_to_tls(patient_clock: object):
    async with listening(silent) as port:
        error, _ = await failure(f"https://127.0.0.1:{port}/", timeout=1)
    assert isinstance(error, httpx.ConnectTimeout)
    assert str(error) == f"127.0.0.1:{port} did not finish the TLS handshake within 1 s"


async def test_no_answer_at_all(monkeypatch: pytest.MonkeyPatch):
    async def never(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    error, _ = await failure("http://192.0.2.1/", timeout=0.05)
    assert str(error) == "192.0.2.1:80 did not take the connection within 0.05 s"


async def test_hung_up_under_tls():
    async with listening(rude) as port:
        error, _ = await failure(f"https://127.0.0.1:{port}/")
    assert any(why in str(error) for why in ("hung up in the middle of TLS", "Connection reset by peer"))


async def test_no_tls_spoken_there():
    async with listening(chatty) as port:
        error, _ = await failure(f"https://127.0.0.1:{port}/")
    assert any(why in str(error) for why in ("TLS failed: wrong version number", "TLS failed: record layer failure"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_certificate_that_is_not_trusted(host: str):
    async with encrypted("localhost", "127.0.0.1") as port:
        error, told = await failure(f"https://{host}:{port}/")
    assert "its certificate is not trusted: unable to get local issuer certificate" in str(error)
    assert "its certificate is not trusted" in told


async def test_certificate_of_somebody_else(tmp_path: Path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    theirs, ours = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(cafile=tmp_path / "ca.pem"),
    )
    authority.issue_cert("other.example").configure_cert(theirs)

    async def converse(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await trio.SSLStream(stream, theirs, server_side=True).do_handshake()

    async with listening(converse) as port:
        error, _ = await failure(f"https://localhost:{port}/", verify=ours)
    assert "its certificate is not trusted: Hostname mismatch" in str(error)


async def test_reason_is_in_the_log_and_in_the_payload(autojump_clock: object, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    app = App()

    @app.handler("q")
    async def fans_out(ctx: Context) -> None:
        async with ctx.fan_out() as fan:
            fan.post("call", "http://127.0.0.1:1/")

    @app.handler("q")
    async def asks(ctx: Context) -> None:
        await ctx.http.get("http://127.0.0.1:1/")

    async with testing.run(app) as test:
        await test.enqueue(fans_out.job(), asks.job())
        await test.drain()
        messages = [json.loads(payload)["error_message"] for payload in test._broker.sets["retry"]]
    assert len(messages) == 2
    assert all("127.0.0.1:1: Connection refused" in message for message in messages)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("fail ")]
    assert ["127.0.0.1:1: Connection refused" in line for line in lines] == [True, True]


def chained(*errors: BaseException) -> BaseException:
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("x"), "x"),
        (chained(ValueError("x"), KeyError("y")), "x"),
        (chained(RuntimeError("x"), OSError(111, "refused")), "x: Connection refused"),
        (chained(RuntimeError("it is Connection refused"), OSError(111, "no")), "it is Connection refused"),
        (
            chained(
                OSError("all failed"), ExceptionGroup("", [OSError(111, "a"), OSError(113, "b"), OSError(111, "a")])
            ),
            "all failed: Connection refused; No route to host",
        ),
        (chained(*(RuntimeError(str(n)) for n in range(100)), OSError(111, "a")), "0"),
        (OSError(), ""),
    ],
)
def test_reason_is_what_lies_at_the_bottom(error: BaseException, told: str):
    assert with_reason(error) == told


def test_error_that_goes_in_circles_has_an_end():
    error = RuntimeError("x")
    error.__cause__ = other = RuntimeError("y")
    other.__cause__ = error
    assert with_reason(error) == "x"


def test_reasons_are_short():
    assert len(reason(ssl.SSLError(1, "x" * 10_000))) <= 300
    assert reason(ExceptionGroup("", [OSError(n, "") for n in range(1, 100)])).count("; ") == 2


class Treacherous(CallFailed):
    permanent = property(lambda _: 1 / 0, lambda _, __: None)  # type: ignore[assignment]


def misused(error: Exception, **attributes: object) -> Exception:
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    "error",
    [
        Broken(),
        Treacherous("a", "b", permanent=True),
        misused(
            CallFailed("a", "b", permanent=False), reason=object(), permanent="yes", retry_after_s=object(), paused=5
        ),
        misused(CallFailed("a", "b", permanent=False), reason="x" * 1_000_000),
        misused(HostPaused("h", 1.0), retry_after=float("nan")),
        misused(HostPaused("h" * 1_000_000, 1.0), retry_after="soon"),
        ValueError("x" * 1_000_000),
    ],
)
async def test_call_whose_error_cannot_be_told_has_failed_all_the_same(error: Exception):
    async def fail() -> None:
        raise error

    async with httpx.AsyncClient() as client:
        progress = Progress()
        with pytest.raises(FanOutError) as failed:
            async with open_fan_out(client, "jid", progress) as fan:
                fan.start("call", fail)
                fan.start("another", trio.lowlevel.checkpoint)
        assert progress.done == ["another"]
        (call,) = failed.value.exceptions
        assert call.permanent is False
        assert len(str(failed.value)) < 20_000
    payload = b'{"class":"A","args":[],"jid":"j","queue":"q","retry":true}'
    outcome = decide(decode(payload, "q"), payload, failed.value, now_s=1.7e9, jitter=0.0)
    assert isinstance(outcome, Retry | Snooze)


# ── several addresses ──────────────────────────────────────────────────────────────────────────────────────────────────


class Addresses:
    """Stands in for `trio.open_tcp_stream`: what each address does."""

    def __init__(self, **what: str) -> None:
        self.what = {name.replace("_", "."): each for name, each in what.items()}
        self.tried: list[str] = []
        self.opened: list[socket.socket] = []

    async def open(self, address: str, port: int) -> trio.SocketStream:
        self.tried.append(address)
        match self.what[address]:
            case "refuses":
                await trio.sleep(0.01)
                raise OSError("all attempts failed") from OSError(111, "refused")
            case "hangs":
                await trio.sleep_forever()
            case "slow":
                await trio.sleep(0.4)
        ours, theirs = trio.socket.socketpair()
        theirs.close()
        self.opened.append(ours)  # type: ignore[arg-type]
        return trio.SocketStream(ours)

    @property
    def left_open(self) -> int:
        return sum(each.fileno() >= 0 for each in self.opened)


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Addresses]:
    def make(**what: str) -> Addresses:
        found = Addresses(**what)
        monkeypatch.setattr(trio, "open_tcp_stream", found.open)
        return found

    return make


async def test_next_address_is_tried_when_one_fails_or_takes_long(
    autojump_clock: object, addresses: Callable[..., Addresses]
):
    for first in ("refuses", "hangs"):
        found = addresses(a=first, b="takes us", c="takes us")
        stream = await first_of(["a", "b", "c"], 1)
        assert found.tried == ["a", "b"]
        assert found.left_open == 1
        stream.socket.close()
    assert trio.current_time() < 1


async def test_other_family_comes_second(autojump_clock: object, addresses: Callable[..., Addresses]):
    found = Addresses()
    found = addresses(**{"::1": "refuses", "::2": "refuses", "1": "refuses", "2": "refuses"})
    with pytest.raises(OSError, match="no address accepted the connection") as failed:
        await first_of(["::1", "::2", "1", "2"], 1)
    assert found.tried == ["::1", "1", "::2", "2"]
    assert reason(failed.value) == "Connection refused"


async def test_two_that_win_at_once_leave_nothing_open(autojump_clock: object, addresses: Callable[..., Addresses]):
    found = addresses(a="slow", b="slow", c="slow")
    stream = await first_of(["a", "b", "c"], 1)
    assert found.left_open == 1
    stream.socket.close()


async def test_cancelled_at_any_moment_it_leaves_nothing_open(
    autojump_clock: object, addresses: Callable[..., Addresses]
):
    for hundredths in range(80):
        found = addresses(a="refuses", b="slow", c="slow")
        with trio.move_on_after(hundredths / 100) as scope:
            stream = await first_of(["a", "b", "c"], 1)
            stream.socket.close()
        assert found.left_open == 0
    assert not scope.cancelled_caught
