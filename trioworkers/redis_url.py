"""What a Redis URL says: where, as whom, which database, and how TLS is to be spoken. Values only; nothing is opened here."""

from __future__ import annotations

import re
from typing import Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from trioworkers.errors import ConfigurationError
from trioworkers.redis_parameters import PARAMETERS, TLS_FIELDS, database, shown_value

_FORMS = "redis://HOST:PORT/DB, rediss://…, redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB, redis+cluster://HOST:PORT,HOST:PORT, unix:///PATH or embedded:[DIRECTORY]"
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")
SENTINEL_PORT = 26379
_NO_UTF8, _NO_NUL = "what is written with % must be UTF-8", "%00 can be in none of its parts"


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
    username: str | None = attrs.field(default=None, repr=False)
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
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    client_name: str | None = None
    connect_timeout_s: float | None = None
    tls: Tls | None = None
    sentinels: Sentinels | None = None
    cluster: Cluster | None = None


def shown_url(url: str) -> str:
    """`url` without what may be secret, however it is misspelt: for whatever people get to read."""
    scheme, slashes, rest = url.partition("//") if "//" in url else ("", "", url)
    # Up to the last @: a password with a slash in it is wrong, and secret.
    place, mark, query = rest.rpartition("@")[2].partition("?")
    place, *more = place.split(";", 1)
    said = (each.partition("=") for each in query.split("&"))
    shown = "&".join(f"{name}={shown_value(name, text)}" if sign else name for name, sign, text in said)
    return f"{scheme}{slashes}{place}{';…' if more else ''}{mark}{shown}"


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
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)) or not usable:
        raise ConfigurationError(f"{shown_url(url)!r} is no Redis URL: {_FORMS}")
    _refuse_what_would_be_left_out(url, parts)
    if parts.fragment:
        _refuse(url, "a Redis URL has no part after '#'; in a password write %23")
    has_tls = parts.scheme.startswith("rediss")
    of_sentinels = parts.scheme.endswith("+sentinel")
    given = _parameters(url, parts.query, of_tls=has_tls, of_sentinels=of_sentinels)
    tls = _tls(url, given) if has_tls else None
    if of_sentinels:
        return _of_sentinels(url, parts, nodes, given, tls)
    said = RedisUrl(**_all_of(url, _of_path(url, parts), given), tls=tls)
    if not nodes:
        return said
    if said.db:
        _refuse(url, "a cluster has one database, 0")
    return attrs.evolve(said, host="", port=0, cluster=Cluster(nodes))


def _refuse_what_would_be_left_out(url: str, parts: SplitResult) -> None:
    """Parts that urlsplit drops or that nobody would read, though somebody wrote them."""
    if any(sign in url.rstrip("\r\n") for sign in "\t\r\n\0"):  # of a line end after it, as in a file, nothing is lost
        _refuse(url, "there is a control character in it")
    login, _, place = parts.netloc.rpartition("@")
    if parts.scheme == "unix" and place:
        _refuse(url, "after unix:// comes a path, which begins with a slash of its own: unix:///run/redis.sock")
    if parts.scheme.endswith(("+sentinel", "+cluster")) and "@" in login:
        _refuse(url, "one login is for all hosts, and comes before the first; in a password write %40 for @")


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
    tls = {name: given.pop(name) for name in list(given) if name in TLS_FIELDS}
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
    nodes = tuple((_host(url, host.hostname or ""), host.port or usual_port) for host in each)
    return f"{scheme}://{login}{at}{each[0].netloc}{after}", tuple(dict.fromkeys(nodes))


def _split_at(text: str, signs: str) -> tuple[str, str]:
    end = min((at for sign in signs if (at := text.find(sign)) >= 0), default=len(text))
    return text[:end], text[end:]


def _host(url: str, written: str) -> str:
    host = _decoded(url, written)
    if "," in host:
        _refuse(url, "several hosts are for Sentinels or a cluster: redis+sentinel:// or redis+cluster://")
    try:
        host.encode("idna" if ":" not in host else "utf-8")  # as whoever looks it up does
        possible = re.fullmatch(r"[\w.-]+|[0-9A-Fa-f:.]+(%[\w.-]+)?", host)
    except UnicodeError:
        possible = None
    if host and not possible:
        _refuse(
            url,
            f"there can be no host {host!r:.80}" if ";" not in host else "a host has no ';'; parameters come after '?'",
        )
    return host


def _decoded(url: str, written: str) -> str:
    try:
        text = unquote(written, errors="strict")
    except UnicodeDecodeError:
        _refuse(url, _NO_UTF8)
    if "\0" in text:
        _refuse(url, _NO_NUL)
    return text


def _of_sentinels(
    url: str, parts: SplitResult, nodes: tuple[tuple[str, int], ...], given: dict[str, Any], tls: Tls | None
) -> RedisUrl:
    name, _, database = parts.path.removeprefix("/").partition("/")
    if not name:
        _refuse(
            url, "the name that the Sentinels have for their primary is missing: redis+sentinel://HOST:26379/NAME/DB"
        )
    sentinels = Sentinels(
        _decoded(url, name),
        nodes,
        given.pop("sentinel_username", None),
        given.pop("sentinel_password", None),
        tls if given.pop("sentinel_tls", True) else None,
    )
    at_server = _of_path(url, parts._replace(path=database)) | {"host": "", "port": 0}
    return RedisUrl(**_all_of(url, at_server, given), tls=tls, sentinels=sentinels)


def _all_of(url: str, before: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What is said before the parameters, and by them. A database may be said by both; then the parameter counts, as in redis-py."""
    for name in ("username", "password"):
        if before[name] is not None and name in given:
            _refuse(url, f"{name} is given twice")
    return before | given


def _of_path(url: str, parts: SplitResult) -> dict[str, Any]:
    login = {
        "username": _decoded(url, parts.username or "") or None,
        "password": _decoded(url, parts.password or "") or None,
    }
    if parts.scheme == "unix":
        return {"path": _decoded(url, parts.path), **login}
    path = _decoded(url, parts.path).strip("/")
    db = database(path) if path else 0
    if db is None:
        _refuse(
            url,
            "a database is a number" + (f", not {path!r}" if "@" not in path else "; in a password write %2F for /"),
        )
    return {"host": _host(url, parts.hostname or ""), "port": parts.port or 6379, "db": db, **login}


def _parameters(url: str, query: str, *, of_tls: bool, of_sentinels: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, text in _pairs(url, query):
        if name not in PARAMETERS:
            others = (*(() if of_tls else ("ssl_", "sentinel_tls")), *(() if of_sentinels else ("sentinel_",)))
            known = ", ".join(each for each in PARAMETERS if not each.startswith(others))
            which = (
                f"unknown parameter {name!r}"
                if "@" not in query
                else "unknown parameter (in a password write %3F for ?)"
            )
            _refuse(url, f"{which}; known are {known}")
        if name.startswith("ssl_") and not of_tls:
            _refuse(url, f"{name} is for TLS: rediss://")
        if name.startswith("sentinel_") and not of_sentinels:
            _refuse(url, f"{name} is for Sentinels: redis+sentinel://")
        if name == "sentinel_tls" and not of_tls:
            _refuse(url, f"{name} is for TLS: rediss+sentinel://")
        field, read = PARAMETERS[name]
        if field in given:
            _refuse(url, f"{name} is given twice")
        value = read(text)
        if value is None:
            _refuse(url, f"{name} can't be {shown_value(name, repr(text))}")
        given[field] = value
    return given


def _pairs(url: str, query: str) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        _refuse(url, _NO_UTF8)
    if any("\0" in text for _, text in pairs):
        _refuse(url, _NO_NUL)
    return pairs


def _refuse(url: str, why: str) -> NoReturn:
    raise ConfigurationError(f"{shown_url(url)!r}: {why}")
