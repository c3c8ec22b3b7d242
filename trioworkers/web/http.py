"""As much of HTTP as the pages need over ASGI: one request, responses, and an end when the browser leaves. Knows nothing of jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, quote_plus

import attrs
import trio

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1 << 20
MAX_FIELDS = 2000
BODY_S = 10.0


class HttpError(Exception):
    """Ends a request with a status and a sentence. Raised by whoever reads the request."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@attrs.frozen
class Request:
    """One request. `root`: where the application is mounted; `path`: below that."""

    method: str
    root: str
    path: str
    query: list[tuple[str, str]]
    form: list[tuple[str, str]]
    headers: Mapping[str, str]

    def get(self, name: str, default: str = "") -> str:
        """One value of the query, else of the form."""
        return next((value for key, value in (*self.query, *self.form) if key == name), default)

    def all(self, name: str) -> list[str]:
        """All values of that name."""
        return [value for key, value in (*self.query, *self.form) if key == name]

    @property
    def here(self) -> str:
        """Where this page is, below our root: where a button leads back to."""
        return address("", self.path, **{name: self.all(name) for name, _ in self.query if name != "did"})

    def number(self, name: str, default: int, least: int = 0, most: int = 10**9) -> int:
        """A whole number within bounds, whatever was sent."""
        text = self.get(name)
        return min(max(int(text), least), most) if text.isascii() and text.isdigit() and len(text) < 12 else default


def headers_of(scope: Scope) -> dict[str, str]:
    """By lower-case name; of one that was sent twice, both: who compares it refuses it."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope.get("headers", ()):
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def path_of(scope: Scope) -> tuple[str, str]:
    """Where we are mounted, and what is asked for below that."""
    root, path = scope.get("root_path", "").rstrip("/"), scope.get("path", "/")
    return root, (path.removeprefix(root) if root else path) or "/"


async def read_request(scope: Scope, receive: Receive) -> Request:
    """Raises HttpError for what is too large or no form."""
    root, path = path_of(scope)
    headers = headers_of(scope)
    body = b""
    if scope["method"] == "POST":
        with trio.move_on_after(BODY_S) as patience:
            body = await _body(receive)
        if patience.cancelled_caught:
            raise HttpError(408, "the form did not come in time")
    if body and not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise HttpError(415, "a form is sent as application/x-www-form-urlencoded")
    return Request(scope["method"], root, path, _fields(scope.get("query_string", b"")), _fields(body), headers)


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpError(400, "the request broke off")
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY_BYTES:
            raise HttpError(413, "that is more than a form of ours ever sends")
        if not message.get("more_body", False):
            return body


def _fields(text: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace")
    except ValueError:
        raise HttpError(413, "that is more than a form of ours ever sends") from None


def address(root: str, path: str, /, **values: object) -> str:
    """An address of ours; what is empty or None is left out."""
    pairs = [(name.rstrip("_"), each) for name, value in values.items() for each in _each(value)]
    query = "&".join(f"{name}={quote_plus(text, errors='replace')}" for name, text in pairs)
    return f"{root}{path}{'?' if query else ''}{query}"


def _each(value: object) -> Iterable[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [str(each) for each in values if each is not None and each != ""]


async def start(send: Send, status: int, content_type: str, headers: Iterable[tuple[str, str]] = ()) -> None:
    """Status and headers."""
    sent = [("content-type", content_type), *headers]
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in sent]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def write(send: Send, text: str | bytes, *, more: bool) -> None:
    """Some of the body."""
    body = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def respond(
    send: Send, status: int, text: str | bytes, content_type: str, headers: Iterable[tuple[str, str]] = ()
) -> None:
    """A whole response."""
    body = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    await start(send, status, content_type, [("content-length", str(len(body))), *headers])
    await write(send, body, more=False)


async def redirect(send: Send, target: str) -> None:
    """To another page of ours, to be fetched with GET."""
    await respond(send, 303, "", "text/plain; charset=utf-8", [("location", target)])


async def until_gone(receive: Receive, send: Send, work: Callable[[Send], Awaitable[None]]) -> None:
    """Do it, but give it up when the browser leaves. Its own error is raised as it is, without the nursery's group around it.

    What it sends is sent here, where nothing is given up: a server that is cancelled in the middle of a send may never close that connection.
    """
    answer, failed, scope = _Answer(send), list[Exception](), trio.CancelScope()
    ours, theirs = trio.open_memory_channel[Message](0)

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def run() -> None:
        async with ours:
            try:
                with scope:
                    await work(ours.send)
            except Exception as error:  # noqa: BLE001 - raised below
                failed.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(run)
        try:
            async with theirs:
                async for message in theirs:
                    await answer.pass_on(message)
            if scope.cancelled_caught:
                await answer.end()
        except OSError:  # how some servers say that the browser is gone
            scope.cancel()
        nursery.cancel_scope.cancel()
    if failed and not isinstance(failed[0], trio.BrokenResourceError):  # nobody takes what it sends any more
        raise failed[0]


@attrs.define
class _Answer:
    """What is sent of one answer. Its head goes out with the first of its body, so that one of a known length is begun only where it is whole."""

    _send: Send
    _head: Message | None = None
    _is_open: bool = False

    async def pass_on(self, message: Message) -> None:
        """One message."""
        if message["type"] == "http.response.start":
            self._head = message
            return
        if self._head is not None:
            head, self._head = self._head, None
            await self._send(head)
        self._is_open = message.get("more_body", False)
        await self._send(message)

    async def end(self) -> None:
        """Have the server let go of one that was given up in its middle."""
        if self._is_open:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
