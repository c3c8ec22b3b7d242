"""How TLS is spoken with a Redis, whoever opens the socket: what a URL says about it, as Python's ssl has it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trioworkers.errors import ConfigurationError
from trioworkers.redis_url import Tls


def tls_context(tls: Tls) -> ssl.SSLContext:
    """How TLS is spoken; the files are read anew, since certificates change while workers run. Raises ConfigurationError."""
    with _naming("ssl_ca_certs", tls.ca_certs):
        is_folder = tls.ca_certs is not None and Path(tls.ca_certs).is_dir()
        files, folder = (None, tls.ca_certs) if is_folder else (tls.ca_certs, None)
        context = ssl.create_default_context(cafile=files, capath=folder)
    context.check_hostname = tls.check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if tls.checked else ssl.CERT_NONE
    if tls.certfile is not None:
        with _naming("ssl_certfile", f"{tls.certfile}{f' with {tls.keyfile}' if tls.keyfile else ''}"):
            context.load_cert_chain(tls.certfile, tls.keyfile, tls.key_password or "")  # None would ask the terminal
    return context


@contextmanager
def _naming(parameter: str, what: str | None) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{parameter}: {what} can't be used: {reason}") from error
