"""redis-py, for the clients of programs without Trio: what a URL means to it, and what its errors mean to us. Imported with a client's first call.

It repeats nothing by itself: what may be repeated, and how long, is known to `jobs/exchanges.py`.
"""

from __future__ import annotations

import socket
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from trioworkers.broker.idle_connections import IdleConnections
from trioworkers.broker.redis.reasons import unreachable
from trioworkers.errors import BrokerError, CannotServe, ConfigurationError, Refused, Unavailable, WrongLogin
from trioworkers.redis_url import RedisUrl, Tls
from trioworkers.tls_context import tls_context
from trioworkers.wire.error_replies import SLOT_ELSEWHERE, refusal

NoScriptError = redis.exceptions.NoScriptError
FOREIGN = (redis.RedisError, OSError)
"""What redis-py raises when Redis or the way to it has a fault."""
CONNECT_TIMEOUT_S = 2.0
REPLY_TIMEOUT_S = 3.0
POOL_PATIENCE_S = 5.0
"""How long a thread waits for a connection that another one has."""
_TEMPORARY = (
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.NoScriptError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,
)


def options(url: RedisUrl) -> dict[str, Any]:
    """How a connection is opened, blocking or not. Raises ConfigurationError."""
    if url.tls is not None:
        tls_context(url.tls)  # a file that can't be used shows with the first call, not when that has tried for long
    timeout_s = url.connect_timeout_s or CONNECT_TIMEOUT_S
    told: dict[str, Any] = {
        "db": url.db,
        "username": url.username,
        "password": url.password,
        "client_name": url.client_name,
        "socket_timeout": REPLY_TIMEOUT_S,
        "protocol": 2,
    }
    if url.path is not None:
        return {**told, "path": url.path}
    return {
        **told,
        "host": url.host,
        "port": url.port,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
    }


class FoundConnection(redis.Connection):  # type: ignore[misc]  # of whatever version
    """A connection to whatever server is the primary when it is opened."""

    def __init__(self, *, found_by: RedisUrl, **rest: Any) -> None:
        self._found_by = found_by
        super().__init__(**rest)

    def _connect(self) -> socket.socket:
        url = self._found_by
        self.host, self.port = find_primary(url)
        plain: socket.socket = super()._connect()
        return plain if url.tls is None else _encrypted(plain, url.tls, self.host)


def find_primary(url: RedisUrl) -> tuple[str, int]:
    """The host and port of the server to use: the primary that Sentinels name, or a cluster's node. Blocks; raises Unreachable."""
    timeout_s = url.connect_timeout_s or CONNECT_TIMEOUT_S
    if url.cluster is not None:
        from trioworkers.broker.blocking_nodes import owner_of  # noqa: PLC0415 - only where somebody has a cluster

        return owner_of(url, url.cluster, timeout_s)
    if url.sentinels is None:
        return url.host, url.port
    from trioworkers.broker.blocking_sentinels import primary_of  # noqa: PLC0415 - only where somebody has Sentinels

    return primary_of(url, url.sentinels, timeout_s)


class TlsConnection(redis.Connection):  # type: ignore[misc]  # of whatever version
    """A connection over TLS as our URLs mean it: redis-py's own adds to the system's authorities those that are given."""

    def __init__(self, *, tls: Tls, **rest: Any) -> None:
        self._tls = tls
        super().__init__(**rest)

    def _connect(self) -> socket.socket:
        return _encrypted(super()._connect(), self._tls, self.host)


def _encrypted(plain: socket.socket, tls: Tls, host: str) -> socket.socket:
    try:
        return tls_context(tls).wrap_socket(plain, server_hostname=host)
    except ConfigurationError as error:  # usable when the client was opened: it is being replaced
        plain.close()
        raise redis.ConnectionError(str(error)) from error
    except BaseException:
        plain.close()
        raise


def open_client(url: RedisUrl, max_connections: int) -> redis.Redis:
    """A blocking client, for any number of threads and over forks. Connects with its first command."""
    kind: type[Any] = redis.Connection
    told = {**options(url), "retry": Retry(NoBackoff(), 0)}
    if url.path is not None:
        kind = redis.UnixDomainSocketConnection
    elif url.sentinels is not None or url.cluster is not None:
        kind = FoundConnection
        told["found_by"] = url
    elif url.tls is not None:
        kind = TlsConnection
        told["tls"] = url.tls
    pool = redis.BlockingConnectionPool(
        connection_class=kind,
        max_connections=max_connections,
        timeout=POOL_PATIENCE_S,
        queue_class=IdleConnections,
        **told,
    )
    return redis.Redis(connection_pool=pool)


_ELSEWHERE = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MovedError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MasterDownError,
)


def is_elsewhere(error: BaseException) -> bool:
    """Whether it says that our connections may lead to the wrong server: one that was demoted, is cut off from its replicas or its cluster, or has our slot no more."""
    return isinstance(error, _ELSEWHERE) or str(error).startswith("NOREPLICAS")


def was_interrupted(error: BaseException) -> bool:
    """Whether it came from outside, out of a signal handler or another greenlet, perhaps between a command and its reply, or while a connection was taken.

    redis-py's own errors leave its connections right. After others one may be lost, or have a reply that would be taken for the next command's.
    """
    return not isinstance(error, redis.RedisError | BrokerError)


def translate(error: BaseException, url: RedisUrl) -> BrokerError:
    """Our error for one of redis-py or the operating system."""
    text = str(error) or type(error).__name__
    match error:
        case redis.exceptions.MovedError() | redis.exceptions.AskError():
            return CannotServe(SLOT_ELSEWHERE)
        case redis.exceptions.AuthenticationError() | redis.exceptions.AuthenticationWrongNumberOfArgsError():
            return WrongLogin(text)
        case redis.exceptions.AuthorizationError() | redis.exceptions.NoPermissionError():
            return Refused(text)
        case _ if isinstance(error, _TEMPORARY):
            return CannotServe(text)
        case redis.ConnectionError() | redis.TimeoutError() | redis.exceptions.InvalidResponse() | OSError():
            root = _cause(error)
            return unreachable(root, url) if " connecting to " in text and root is not None else Unavailable(text)
        case _:
            return refusal(text)


def _cause(error: BaseException) -> OSError | None:
    """What the operating system said."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None or isinstance(seen, OSError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
