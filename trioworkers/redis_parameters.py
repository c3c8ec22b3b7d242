"""The parameters of a Redis URL, behind its `?`: their names, how each is read, and which may be shown. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def shown_value(name: str, text: str) -> str:
    """The value of a parameter, or what stands for one that may be secret: also where somebody wrote `;` for `&`."""
    return text if name in _HARMLESS and not {*text} & {";", "="} else "…"


# ── each returns None for what can't be ────────────────────────────────────────────────────────────────────────────────


def _text(text: str) -> str | None:
    return text or None


def _name(text: str) -> str | None:
    """What Redis takes as the name of a client."""
    return text if re.fullmatch("[!-~]+", text) else None


def database(text: str) -> int | None:
    """The number of a database."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def _flag(text: str) -> bool | None:
    word = text.lower()
    return word in _TRUE if word in (*_TRUE, *_FALSE) else None


def _is_checked(text: str) -> bool | None:
    """`optional` means `required` for who connects; Celery writes CERT_NONE."""
    word = text.lower().removeprefix("cert_")
    return word != "none" if word in ("none", "optional", "required") else None


PARAMETERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "db": ("db", database),
    "username": ("username", _text),
    "password": ("password", _text),
    "client_name": ("client_name", _name),
    "connect_timeout": ("connect_timeout_s", _seconds),
    "sentinel_username": ("sentinel_username", _text),
    "sentinel_password": ("sentinel_password", _text),
    "sentinel_tls": ("sentinel_tls", _flag),
    "ssl_ca_certs": ("ca_certs", _text),
    "ssl_cert_reqs": ("checked", _is_checked),
    "ssl_check_hostname": ("check_hostname", _flag),
    "ssl_certfile": ("certfile", _text),
    "ssl_keyfile": ("keyfile", _text),
    "ssl_password": ("key_password", _text),
}
TLS_FIELDS = frozenset({"ca_certs", "checked", "check_hostname", "certfile", "keyfile", "key_password"})
_HARMLESS = frozenset(
    {*PARAMETERS} - {"username", "password", "sentinel_username", "sentinel_password", "ssl_password"}
)
"""What may be shown."""
