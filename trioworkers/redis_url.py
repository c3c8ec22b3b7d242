"""What a Redis URL says: where, as whom, which database, and how TLS is to be spoken. Values only; nothing is opened here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from trioworkers.errors import ConfigurationError

_FORMS = "redis://HOST:PORT/DB, rediss://…, redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB, redis+cluster://HOST:PORT,HOST:PORT, unix:///PATH or embedded:[DIRECTORY]"
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")
SENTINEL_PORT = 26379
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@attrs.frozen
class Tls:
    """How the server is checked, and what we show it. Given by `?ssl_…=`, which redis-py and coredis spell alike.

    `ca_certs`: a file or a directory of certificates to trust, instead of the system's. `checked`: False for any certificate
    (`ssl_cert_reqs=none`). `check_hostname`: whether it must be for the host that is called. `certfile`, `keyfile`, `key_password`: our own.
    """

    ca_certs: str | None = None
    checked: bool = True
    check_hostname: bool = True
    certfile: str | None = None
    keyfile: str | None = None
    key_password: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Sentinels:
    """Who is asked where the primary is. `name`: what they call it. `nodes`: their hosts and ports. `tls`: None for none."""

    name: str
    nodes: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: Tls | None = None


@attrs.frozen
class Cluster:
    """Some nodes of one. `key`: a key of ours, which says in what slot all of them lie; "" as long as nobody has said the namespace."""

    nodes: tuple[tuple[str, int], ...]
    key: str = ""


@attrs.frozen
class RedisUrl:
    """The parts of a URL, decoded. `path`: of a unix socket, else None. `tls`: None for none. `connect_timeout_s`: None if it says nothing.

    `sentinels`, `cluster`: None where the server's address is known; else `host` and `port` say nothing.
    """

    host: str = ""
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    client_name: str | None = None
    connect_timeout_s: float | None = None
    tls: Tls | None = None
    sentinels: Sentinels | None = None
    cluster: Cluster | None = None


def shown_url(url: str) -> str:
    """`url` without user and password: for whatever people get to read."""
    scheme, slashes, rest = url.partition("//")
    # Up to the last @: a password with a slash in it is wrong, and secret.
    return re.sub(r"((?:username|password)=)[^&]*", r"\1…", f"{scheme}{slashes}{rest.rpartition('@')[2]}")


def parse_redis_url(url: str) -> RedisUrl:
    """Read a URL of one of `SCHEMES`. Raises ConfigurationError for what is none, and for a parameter that nobody would obey."""
    nodes: tuple[tuple[str, int], ...] = ()
    parts = SplitResult("", "", "", "", "")
    try:
        one, nodes = _without_list(url)
        parts = urlsplit(one)
        usable = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if parts.scheme not in SCHEMES or not usable:
        raise ConfigurationError(f"{shown_url(url)!r} is no Redis URL: {_FORMS}")
    if parts.fragment:
        _refuse(url, "a Redis URL has no part after '#'; in a password write %23")
    has_tls = parts.scheme.startswith("rediss")
    of_sentinels = parts.scheme.endswith("+sentinel")
    given = _parameters(url, parts.query, of_tls=has_tls, of_sentinels=of_sentinels)
    tls = _tls(url, given) if has_tls else None
    if of_sentinels:
        return _of_sentinels(url, parts, nodes, given, tls)
    said = RedisUrl(**(_of_path(url, parts) | given), tls=tls)
    if not nodes:
        return said
    if said.db:
        _refuse(url, "a cluster has one database, 0")
    return attrs.evolve(said, host="", port=0, cluster=Cluster(nodes))


def at_namespace(url: RedisUrl, namespace: str) -> RedisUrl:
    """Where the keys of that namespace lie. Raises ConfigurationError if that is not one place of a cluster."""
    if url.cluster is None:
        return url
    if not (namespace.startswith("{") and namespace.endswith("}")):
        raise ConfigurationError(
            f"in a cluster all keys of a namespace lie in one slot: it is one pair of braces, like '{{shop}}', not {namespace!r}"
        )
    return attrs.evolve(url, cluster=attrs.evolve(url.cluster, key=f"{namespace}:tw:inprogress"))


def _tls(url: str, given: dict[str, Any]) -> Tls:
    """Takes from `given` what TLS is to be like."""
    tls = {name: given.pop(name) for name in list(given) if name in _TLS_FIELDS}
    if tls.get("keyfile") and not tls.get("certfile"):
        _refuse(url, "ssl_keyfile without ssl_certfile")
    if not tls.get("checked", True):
        tls["check_hostname"] = False
    return Tls(**tls)


def _without_list(url: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    """A URL of Sentinels or of a cluster with the first address only, as urlsplit wants it, and all of them. Raises ValueError."""
    scheme, _, rest = url.partition("://")
    if not scheme.endswith(("+sentinel", "+cluster")):
        return url, ()
    usual_port = SENTINEL_PORT if scheme.endswith("+sentinel") else 6379
    authority, after = _split_at(rest, "/?#")
    login, at, hosts = authority.rpartition("@")
    each = [urlsplit(f"redis://{host}") for host in hosts.split(",")]
    if any(not host.hostname or host.port == 0 or host.username is not None for host in each):
        raise ValueError(hosts)
    nodes = tuple((unquote(host.hostname or ""), host.port or usual_port) for host in each)
    return f"{scheme}://{login}{at}{each[0].netloc}{after}", tuple(dict.fromkeys(nodes))


def _split_at(text: str, signs: str) -> tuple[str, str]:
    end = min((at for sign in signs if (at := text.find(sign)) >= 0), default=len(text))
    return text[:end], text[end:]


def _of_sentinels(
    url: str, parts: SplitResult, nodes: tuple[tuple[str, int], ...], given: dict[str, Any], tls: Tls | None
) -> RedisUrl:
    name, _, database = parts.path.removeprefix("/").partition("/")
    if not name:
        _refuse(
            url, "the name that the Sentinels have for their primary is missing: redis+sentinel://HOST:26379/NAME/DB"
        )
    sentinels = Sentinels(
        unquote(name),
        nodes,
        given.pop("sentinel_username", None),
        given.pop("sentinel_password", None),
        tls if given.pop("sentinel_tls", True) else None,
    )
    at_server = _of_path(url, parts._replace(path=database)) | {"host": "", "port": 0}
    return RedisUrl(**(at_server | given), tls=tls, sentinels=sentinels)


def _of_path(url: str, parts: SplitResult) -> dict[str, Any]:
    login = {
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
    }
    if parts.scheme == "unix":
        return {"path": unquote(parts.path), **login}
    path = unquote(parts.path).strip("/")
    db = _database(path) if path else 0
    if db is None:
        _refuse(url, f"a database is a number, not {path!r}")
    return {"host": unquote(parts.hostname or ""), "port": parts.port or 6379, "db": db, **login}


def _parameters(url: str, query: str, *, of_tls: bool, of_sentinels: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _PARAMETERS:
            others = (*(() if of_tls else ("ssl_", "sentinel_tls")), *(() if of_sentinels else ("sentinel_",)))
            known = ", ".join(each for each in _PARAMETERS if not each.startswith(others))
            _refuse(url, f"unknown parameter {name!r}; known are {known}")
        if name.startswith("ssl_") and not of_tls:
            _refuse(url, f"{name} is for TLS: rediss://")
        if name.startswith("sentinel_") and not of_sentinels:
            _refuse(url, f"{name} is for Sentinels: redis+sentinel://")
        if name == "sentinel_tls" and not of_tls:
            _refuse(url, f"{name} is for TLS: rediss+sentinel://")
        field, read = _PARAMETERS[name]
        if field in given:
            _refuse(url, f"{name} is given twice")
        value = read(text)
        if value is None:
            shown = "…" if "password" in name else repr(text)
            _refuse(url, f"{name} can't be {shown}")
        given[field] = value
    return given


def _refuse(url: str, why: str) -> NoReturn:
    raise ConfigurationError(f"{shown_url(url)!r}: {why}")


# ── each returns None for what can't be ────────────────────────────────────────────────────────────────────────────────


def _text(text: str) -> str | None:
    return text or None


def _database(text: str) -> int | None:
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


_PARAMETERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "db": ("db", _database),
    "username": ("username", _text),
    "password": ("password", _text),
    "client_name": ("client_name", _text),
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
_TLS_FIELDS = frozenset({"ca_certs", "checked", "check_hostname", "certfile", "keyfile", "key_password"})
