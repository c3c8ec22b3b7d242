"""Where a dashboard is served: its address, whether others reach it, a socket that listens there. Without Trio: the parent of several processes opens it."""

from __future__ import annotations

import ipaddress
import socket
from importlib.util import find_spec

from trioworkers.errors import ConfigurationError

PATIENCE_S = 15.0


def check_installed() -> None:
    """Raises ConfigurationError if the extra isn't installed."""
    missing = [name for name in ("jinja2", "anycorn") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"the dashboard needs {' and '.join(missing)}: pip install 'trioworkers[web]'")


def check_login(bind: str, *tokens: str | None) -> None:
    """Raises ConfigurationError for an address that others reach, without a login."""
    if not any(tokens) and not _is_loopback(_host_of(bind)):
        raise ConfigurationError(
            f"web: other machines reach {bind}, so it needs a login: --token, or TRIOWORKERS_WEB_TOKEN, with 16 characters or more"
        )


def listen(bind: str) -> socket.socket:
    """Bind it; port 0: any that is free. Raises ConfigurationError."""
    host, port = _host_of(bind), bind.rpartition(":")[2]
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigurationError(f"web: an address is HOST:PORT, like 127.0.0.1:8090, not {bind!r}")
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(
            socket, "TCP_USER_TIMEOUT"
        ):  # Linux. Who doesn't take what is sent is hung up on, else it would be kept for ever: the server's writes can't be cancelled
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PATIENCE_S * 1000))
        listener.bind(address)
        listener.listen(100)
    except (OSError, UnicodeError) as error:  # a name with an empty or too long part can't be asked for
        said = (isinstance(error, OSError) and error.strerror) or f"{host!r:.100} is no name of a machine"
        raise ConfigurationError(f"web: can't listen on {bind:.200}: {said}") from error
    return listener


def shown_address(listener: socket.socket) -> str:
    """Where people find it."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104 - only shown
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


def _host_of(bind: str) -> str:
    return bind.rpartition(":")[0].strip("[]") or "127.0.0.1"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
