"""Who may look and who may act: names and addresses, logins, where a form came from; and what browsers are told to refuse. Before all pages.

Without a login only this machine is answered, under its own names: another site's page can make a browser call us (DNS rebinding), but not
under these. A form counts only from a page of the same origin, which browsers say themselves (Sec-Fetch-Site; older ones Origin), so there are neither cookies nor tokens in forms.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import inspect
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Literal

import attrs
import trio

from trioworkers.errors import ConfigurationError
from trioworkers.web.http import ASGI, Message, Receive, Scope, Send, headers_of, respond

logger = logging.getLogger("trioworkers.web")

May = Literal["read", "write"]


@attrs.frozen
class Visitor:
    """Who it is, for the log, and what they may do."""

    may: May
    who: str = ""


Auth = Callable[[Scope], "Visitor | May | Awaitable[Visitor | May | None] | None"]

LEAST_TOKEN = 16
WRONG_TOKEN_DELAY_S = 0.5
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),  # with none at all browsers send `Origin: null` with forms
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS]


def token_auth(token: str | None, read_token: str | None) -> Auth:
    """A login by a token: the password of Basic, whose user is who is logged, or a Bearer. Raises ConfigurationError."""
    known: list[tuple[bytes, May]] = []
    for text, may in ((token, "write"), (read_token, "read")):
        if text:
            if len(text) < LEAST_TOKEN:
                raise ConfigurationError(f"web: a token has {LEAST_TOKEN} characters or more: it is a password")
            known.append((text.encode(), "write" if may == "write" else "read"))

    def auth(scope: Scope) -> Visitor | None:
        who, given = _credentials(headers_of(scope).get("authorization", ""))
        found = [may for expected, may in known if hmac.compare_digest(expected, given)]
        return Visitor(found[0], who) if found else None

    return auth


def _credentials(header: str) -> tuple[str, bytes]:
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return "", value.strip().encode("latin-1")
    if scheme.lower() != "basic":
        return "", b""
    try:
        user, _, password = base64.b64decode(value, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return "", b""
    return user.decode(errors="replace"), password


class Guard:
    """Stands before the application. What passes has a `Visitor` in its scope, under `trioworkers.visitor`."""

    def __init__(self, app: ASGI, *, auth: Auth | None, hosts: Collection[str] | None, read_only: bool) -> None:
        self._app = app
        self._auth = auth
        self._hosts = None if hosts is None else frozenset(map(str.lower, hosts))
        self._read_only = read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; what is no HTTP is none of ours."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*headers, *_RAW_HEADERS]}
            await send(message)

        headers = headers_of(scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            # Who stands before us may read the one, and we the other: what follows on this connection would be somebody else's request.
            both = "a request has a length or an encoding, not both\n"
            await respond(send_guarded, 400, both, "text/plain; charset=utf-8", [("connection", "close")])
            return
        visitor = await self._visitor(scope, headers, send_guarded)
        if visitor is None:
            return
        if problem := self._wrong_write(scope, headers, visitor):
            await _refuse(send_guarded, 403, problem)
            return
        await self._app({**scope, "trioworkers.visitor": visitor}, receive, send_guarded)

    async def _visitor(self, scope: Scope, headers: Mapping[str, str], send: Send) -> Visitor | None:
        """Who it is; None: they have been told why they aren't let in."""
        if problem := self._wrong_place(scope, headers):
            await _refuse(send, 403, problem)
            return None
        if self._auth is None:
            return Visitor("read" if self._read_only else "write", str((scope.get("client") or ("this machine",))[0]))
        found = self._auth(scope)
        allowed = await found if inspect.isawaitable(found) else found
        if allowed is None:
            await trio.sleep(WRONG_TOKEN_DELAY_S)
            await respond(
                send,
                401,
                "who are you?\n",
                "text/plain; charset=utf-8",
                [("www-authenticate", 'Basic realm="trioworkers"')],
            )
            return None
        visitor = allowed if isinstance(allowed, Visitor) else Visitor(allowed)
        return attrs.evolve(visitor, may="read") if self._read_only else visitor

    def _wrong_place(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """Why a request may not come from there, or under that name; "" if it may."""
        name = _name_in(headers.get("host", ""))
        if self._hosts is not None and name not in self._hosts:
            return f"this dashboard isn't called by that name; it is told its names (hosts=, --host): {name!r:.100}"
        if self._auth is not None:
            return ""
        if self._hosts is None and name not in LOOPBACK_NAMES:
            return f"without a login this dashboard is for this machine only, not for {name!r:.100}: give it a token"
        if not _is_near(scope) or _came_through_a_proxy(scope, headers):
            return "without a login this dashboard is for this machine only: give it a token"
        return ""

    def _wrong_write(self, scope: Scope, headers: Mapping[str, str], visitor: Visitor) -> str:
        """Why this may not change anything; "" if it may, or doesn't want to."""
        if scope["method"] in ("GET", "HEAD"):
            return ""
        if visitor.may != "write":
            return "you may look, but change nothing"
        site = headers.get("sec-fetch-site")
        if site is None:  # a browser from before 2023
            host = headers.get("host", "?")
            ours = {f"https://{host}", f"{scope.get('scheme', 'http')}://{host}"}  # TLS may end before us
            site = "same-origin" if headers.get("origin", "") in ours else "unknown"
        if site != "same-origin":
            logger.warning("refused a form that came from another site (%s)", headers.get("origin", "unknown")[:100])
            return "this form came from another site"
        return ""


_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@,\s]+)(?::[0-9]{0,5})?")


def _name_in(host: str) -> str:
    """Without its port; "" for what no browser sends."""
    found = _HOST.fullmatch(host.strip().lower())
    return found[1] if found else ""


def _came_through_a_proxy(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether it did, as far as that can be seen: some proxies say nothing, and give us a name of this machine as the host.

    nginx speaks HTTP/1.0 unless it is told otherwise, browsers don't; no browser speaks HTTP/2 without TLS, which leads past what a proxy would say;
    and a browser's own page has another address than the one by which the proxy asks us.
    """
    if any(name.startswith("x-forwarded-") or name in ("forwarded", "via", "x-real-ip") for name in headers):
        return True
    if scope.get("http_version") == "1.0" or (scope.get("http_version") == "2" and scope.get("scheme") != "https"):
        return True
    page = headers.get("origin", "") if scope["method"] == "POST" else headers.get("referer", "")
    there = page.partition("://")[2].partition("/")[0]
    return bool(there) and headers.get("sec-fetch-site") == "same-origin" and there != headers.get("host")


def _is_near(scope: Scope) -> bool:
    client = scope.get("client")
    if not client:
        return True  # a unix socket
    try:
        near = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(near, "ipv4_mapped", None)
    return (mapped or near).is_loopback


async def _refuse(send: Send, status: int, text: str) -> None:
    await respond(send, status, f"{text}\n", "text/plain; charset=utf-8")
