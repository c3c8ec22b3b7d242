"""Why a Redis can't be reached, in plain words, and what to do about it: "unable to connect" helps nobody."""

from __future__ import annotations

import socket
import ssl

from trioworkers.errors import ConfigurationError, Unreachable
from trioworkers.redis_url import RedisUrl

START_IT = (
    "start it, or say where it is: --redis, REDIS_URL; `trioworkers dev` and --redis embedded:./data bring their own"
)
_ANYIO_ENDED = ("EndOfStream", "BrokenResourceError")
"""By name: who speaks to Redis without Trio reads these reasons, too, and imports no anyio."""
_HOSTNAME_MISMATCH = 62
"""X509_V_ERR_HOSTNAME_MISMATCH; 64 is the same for an IP address."""
_OF_TIME = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def unreachable(error: BaseException, url: RedisUrl | None = None) -> Unreachable:
    """What `error` means, which opening a connection to `url` raised."""
    match error:
        case Unreachable():
            found = error
        case ConfigurationError():
            found = Unreachable(str(error), "mend the URL, or the file that it names")
        case ssl.SSLError():
            found = _of_tls(error)
        case socket.gaierror():
            found = _of_name(error, "" if url is None else url.host)
        case TimeoutError():
            found = _silent(error, url)
        case ConnectionRefusedError():
            found = Unreachable("connection refused", f"nothing listens there: {START_IT}")
        case FileNotFoundError():
            found = Unreachable(f"there is no {'socket' if url is None else url.path}", START_IT)
        case _ if isinstance(error, ConnectionResetError) or type(error).__name__ in _ANYIO_ENDED:
            found = _ended(url)
        case OSError():
            found = Unreachable(error.strerror or str(error) or type(error).__name__, START_IT)
        case _:
            found = Unreachable(str(error) or type(error).__name__, START_IT)
    return found


def mute() -> Unreachable:
    """It took the connection, and said nothing."""
    return Unreachable("it accepts connections, but doesn't answer", "is it a Redis? is it busy or frozen?")


def _silent(error: TimeoutError, url: RedisUrl | None) -> Unreachable:
    if "HELLO" in str(error):
        return mute()
    advice = "does it run? does a firewall block it?"
    if url is not None and url.tls is not None:
        advice = f"{advice} does it speak TLS? if not: redis://"
    return Unreachable(str(error) or "no answer", advice)


def _ended(url: RedisUrl | None) -> Unreachable:
    if url is not None and url.tls is not None:
        advice = "does it speak TLS? if not: redis://; does it want a certificate of ours? then ssl_certfile="
    else:
        advice = "does it want TLS? then rediss://"
    return Unreachable("it closed the connection before it answered", advice)


def _of_name(error: socket.gaierror, host: str) -> Unreachable:
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return Unreachable(f"the name {host!r} is unknown", "is it spelled right? does this machine know it?")
    return Unreachable(f"the name {host!r} can't be looked up: {error.strerror}", "does this machine's DNS work?")


def _of_tls(error: ssl.SSLError) -> Unreachable:
    reason = str(error.reason or "").replace("_", " ").lower() or str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (_HOSTNAME_MISMATCH, 64):
            text = f"its certificate is for another host: {error.verify_message}"
            return Unreachable(text, "call it by a name in its certificate, or add ssl_check_hostname=false to the URL")
        text = f"its certificate is not trusted: {error.verify_message}"
        of_time, of_authority = (
            "it needs a new certificate; is this machine's clock right?",
            "add ssl_ca_certs=FILE to the URL: the authority that signed it",
        )
        return Unreachable(text, of_time if error.verify_code in _OF_TIME else of_authority)
    if "certificate required" in reason or "handshake failure" in reason:
        return Unreachable(
            f"it wants a certificate of ours ({reason})", "add ssl_certfile= and ssl_keyfile= to the URL"
        )
    if "unknown ca" in reason or "bad certificate" in reason or "certificate unknown" in reason:
        return Unreachable(
            f"it doesn't trust our certificate ({reason})", "ssl_certfile has to be signed by its authority"
        )
    if "wrong version number" in reason or "record layer failure" in reason:
        return Unreachable(f"it doesn't speak TLS ({reason})", "redis:// instead of rediss://?")
    return Unreachable(f"TLS failed: {reason}", "does it speak TLS, and which versions?")
