"""A Redis behind TLS: its own, where the binary has it, and a proxy that ends TLS before it, everywhere."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import trustme
from servers import Server, free_port, server_program


class Certificates:
    """An authority of the test's own, with files for a server, a client, and a client of another authority."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.server = self._issue(folder / "server", authority, "localhost")
        self.client = self._issue(folder / "client", authority, "client")
        self.expired = self._issue(
            folder / "expired",
            authority,
            "localhost",
            not_after=datetime(2020, 1, 2, tzinfo=UTC),
            not_before=datetime(2020, 1, 1, tzinfo=UTC),
        )
        self.stranger = self._issue(folder / "stranger", trustme.CA(), "client")

    @staticmethod
    def _issue(where: Path, authority: trustme.CA, name: str, **dates: datetime) -> tuple[Path, Path]:
        issued = authority.issue_cert(name, **dates)
        certificate, key = where.with_suffix(".crt"), where.with_suffix(".key")
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(certificate), append=number > 0)
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


@cache
def redis_speaks_tls() -> bool:
    """Whether the binary was built with it: with a port and no certificate it says what is missing, else that it knows no such option."""
    done = subprocess.run(
        [server_program(), "--port", "0", "--tls-port", str(free_port())], capture_output=True, timeout=20, check=False
    )
    return b"tls-cert-file" in done.stdout + done.stderr


class TLSProxy:
    """Ends TLS before a server. `wants_client`: only for clients with a certificate of our authority."""

    def __init__(
        self, target_port: int, certificates: Certificates, *, wants_client: bool = False, expired: bool = False
    ) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.ca))
        self._context.load_cert_chain(*map(str, certificates.expired if expired else certificates.server))
        self._context.verify_mode = ssl.CERT_REQUIRED if wants_client else ssl.CERT_NONE
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, self._context.wrap_socket(client, server_side=True) as encrypted:
            server = socket.create_connection(self._target)
            thread = threading.Thread(target=_pump, args=(server, encrypted), daemon=True)
            thread.start()
            _pump(encrypted, server)
            thread.join()
            server.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class TLSServer(Server):
    """A real Redis that listens on a TLS port, too."""

    def __init__(
        self, folder: Path, certificates: Certificates, *, wants_client: bool = False, expired: bool = False
    ) -> None:
        super().__init__(folder)
        self._certificate = certificates.expired if expired else certificates.server
        self._ca = certificates.ca
        self._wants_client = wants_client
        self.tls_port = free_port()

    def start(self, *more: str, wait: bool = True) -> Server:
        certificate, key = map(str, self._certificate)
        options = ["--tls-port", str(self.tls_port), "--tls-cert-file", certificate, "--tls-key-file", key]
        options += ["--tls-ca-cert-file", str(self._ca)]
        options += ["--tls-auth-clients", "yes" if self._wants_client else "no"]
        return super().start(*options, *more, wait=wait)
