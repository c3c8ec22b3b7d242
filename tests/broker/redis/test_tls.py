"""TLS parameters of a URL are obeyed; and why there is no connection is said, with what to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trio
from any_client import KINDS, AnyClient
from cryptography.hazmat.primitives import serialization
from servers import ROOT, Server, free_port
from tls import Certificates, TLSProxy, TLSServer, redis_speaks_tls

from trioworkers import Client, ConfigurationError, Job, Unavailable
from trioworkers.errors import Unreachable

Serve = Callable[..., int]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["redis's own TLS", "a proxy's TLS"])
def serve(
    request: pytest.FixtureRequest, tmp_path: Path, shared_server: Server, certificates: Certificates
) -> Iterator[Serve]:
    """Starts a Redis behind TLS; returns its port."""
    ends: list[Callable[[], None]] = []

    def start(**options: bool) -> int:
        if request.param == "a proxy's TLS":
            proxy = TLSProxy(shared_server.port, certificates, **options)
            ends.append(proxy.close)
            return proxy.port
        if not redis_speaks_tls():
            pytest.skip("this Redis was built without TLS")
        (tmp_path / "tls").mkdir()
        server = TLSServer(tmp_path / "tls", certificates, **options)
        server.start()
        ends.append(server.kill)
        return server.tls_port

    yield start
    for end in ends:
        end()


async def sent(url: str) -> str:
    """ "" if a job could be sent there, else why not, and the advice."""
    try:
        async with Client(url) as client:
            await client.enqueue(Job("q", "Work"))
    except Unreachable as error:
        return f"{error} → {error.advice}"
    return ""


async def test_authority_of_its_own_is_trusted_where_it_is_named(serve: Serve, certificates: Certificates):
    port = serve()
    assert "its certificate is not trusted" in (why := await sent(f"rediss://localhost:{port}"))
    assert "ssl_ca_certs=FILE" in why
    assert await sent(f"rediss://localhost:{port}?ssl_ca_certs={certificates.ca}") == ""
    assert await sent(f"rediss://localhost:{port}?ssl_cert_reqs=none") == ""


async def test_name_in_the_certificate_has_to_fit_unless_said_otherwise(serve: Serve, certificates: Certificates):
    url = f"rediss://127.0.0.1:{serve()}?ssl_ca_certs={certificates.ca}"
    assert "its certificate is for another host" in (why := await sent(url))
    assert "ssl_check_hostname=false" in why
    assert await sent(f"{url}&ssl_check_hostname=false") == ""


async def test_certificate_that_has_expired_is_not_taken_for_a_strangers(serve: Serve, certificates: Certificates):
    why = await sent(f"rediss://localhost:{serve(expired=True)}?ssl_ca_certs={certificates.ca}")
    assert "its certificate is not trusted: certificate has expired" in why
    assert "a new certificate" in why
    assert "ssl_ca_certs" not in why


async def test_client_certificate_is_shown(serve: Serve, certificates: Certificates):
    url = f"rediss://localhost:{serve(wants_client=True)}?ssl_ca_certs={certificates.ca}"
    certificate, key = certificates.client
    assert await sent(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}") == ""
    assert "ssl_certfile" in await sent(url)
    certificate, key = certificates.stranger
    assert "ssl_certfile" in await sent(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "trio"])
def test_clients_that_do_not_run_on_trio_obey_the_same_parameters(kind: str, serve: Serve, certificates: Certificates):
    (certificate, key), (other, its_key) = certificates.client, certificates.stranger
    port = serve(wants_client=True)
    shown = f"ssl_certfile={certificate}&ssl_keyfile={key}"
    trusted = f"ssl_ca_certs={certificates.ca}"

    def why_not(parameters: str, host: str = "localhost") -> str:
        client = AnyClient(kind, f"rediss://{host}:{port}?{parameters}", retry_for=0)
        try:
            client.enqueue(Job("q", "Work"))
        except Unavailable as error:
            return str(error)
        finally:
            client.close()
        return ""

    assert why_not(f"{trusted}&{shown}") == ""
    assert why_not(f"ssl_cert_reqs=none&{shown}") == ""
    assert why_not(f"{trusted}&{shown}&ssl_check_hostname=false", "127.0.0.1") == ""
    assert "another host" in why_not(f"{trusted}&{shown}", "127.0.0.1")
    assert "not trusted" in why_not(shown)
    assert why_not(trusted) != ""
    assert why_not(f"{trusted}&ssl_certfile={other}&ssl_keyfile={its_key}") != ""


async def test_locked_key_is_opened_by_its_password_and_never_asks_the_terminal(
    serve: Serve, certificates: Certificates, tmp_path: Path
):
    certificate, key = certificates.client
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    encryption = serialization.BestAvailableEncryption(b"open sesame")
    locked.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    url = f"rediss://localhost:{serve(wants_client=True)}?ssl_ca_certs={certificates.ca}&ssl_certfile={certificate}&ssl_keyfile={locked}"
    assert await sent(f"{url}&ssl_password=open%20sesame") == ""
    for wrong in ("", "&ssl_password=wrong"):
        with pytest.raises(ConfigurationError, match="ssl_certfile"):
            await sent(url + wrong)


@pytest.mark.parametrize("parameter", ["ssl_ca_certs", "ssl_certfile"])
@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_file_that_can_not_be_used_is_named_at_the_start(tmp_path: Path, parameter: str, content: str | None):
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=f"{parameter}: {path} can't be used"):
        await sent(f"rediss://localhost:1?{parameter}={path}")


async def test_certificates_are_read_anew_for_each_connection(serve: Serve, certificates: Certificates, tmp_path: Path):
    """They are replaced while workers run."""
    copy = tmp_path / "ca.pem"
    copy.write_bytes(certificates.ca.read_bytes())
    async with Client(f"rediss://localhost:{serve()}?ssl_ca_certs={copy}") as client:
        copy.write_text("being written")
        with pytest.raises(Unavailable, match="ssl_ca_certs"):
            await client.enqueue(Job("q", "Work"))
        copy.write_bytes(certificates.ca.read_bytes())
        await client.enqueue(Job("q", "Work"))


# ── why there is no connection ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
def closing_port() -> Iterator[int]:
    """Takes connections and closes them, as a TLS server does with who speaks plainly."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.recv(100)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


async def test_refused_is_said():
    assert (await sent(f"redis://127.0.0.1:{free_port()}")).startswith("connection refused → nothing listens there")


async def test_unknown_name_is_said():
    why = await sent("redis://no-such-host.invalid")
    assert "no-such-host.invalid" in why
    assert "is unknown" in why or "can't be looked up" in why  # without a network nobody can be asked


async def test_missing_socket_is_said(tmp_path: Path):
    assert f"there is no {tmp_path}/redis.sock" in await sent(f"unix://{tmp_path}/redis.sock")


async def test_plain_server_behind_a_tls_url_is_said(redis_url: str):
    assert "redis://" in await sent(redis_url.replace("redis://", "rediss://"))


async def test_who_hangs_up_at_once_is_said(closing_port: int):
    assert "rediss://" in await sent(f"redis://127.0.0.1:{closing_port}")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_silence_is_said(silent_port: int, scheme: str):
    why = await sent(f"{scheme}://127.0.0.1:{silent_port}?connect_timeout=0.2")
    assert "no answer" in why or "doesn't answer" in why


async def test_address_that_does_not_answer_does_not_hide_the_one_that_does(
    monkeypatch: pytest.MonkeyPatch, redis_url: str
):
    """A name with three addresses: one is silent, at one nothing listens."""
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    monkeypatch.setattr("trioworkers.lookup._resolve", lambda host, port: ["127.0.0.3", "127.0.0.2", "127.0.0.1"])
    with socket.create_server(("127.0.0.3", port), backlog=0), ExitStack() as stack:
        for _ in range(2):  # its queue is full: whoever comes now hears nothing
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.3", port))
        assert await sent(f"redis://two-addresses:{port}") == ""


async def test_cancelled_connect_leaves_no_socket(silent_port: int):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with trio.move_on_after(0.1):
            await sent(f"rediss://127.0.0.1:{silent_port}?connect_timeout=0.3")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_doctor_says_what_is_wrong_and_what_to_do(certificates: Certificates, shared_server: Server):
    proxy = TLSProxy(shared_server.port, certificates)
    for url, words, advice in (
        (f"redis://127.0.0.1:{free_port()}", "connection refused", "start it"),
        (f"rediss://localhost:{proxy.port}", "not trusted", "ssl_ca_certs"),
        (f"redis://localhost:{proxy.port}", "closed the connection", "rediss://"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "trioworkers", "doctor", "--redis", url, "--json"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        finding = json.loads(done.stdout)[0]
        assert (finding["check"], finding["level"], words in finding["text"], advice in finding["advice"]) == (
            "redis",
            "problem",
            True,
            True,
        ), finding
    proxy.close()
