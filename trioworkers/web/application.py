"""From an address to a page, a button or a file; and from whatever goes wrong to a page that says so."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from urllib.parse import urlencode

import trio

from trioworkers.web.buttons import BUTTONS
from trioworkers.web.failures import PAGE_S, said
from trioworkers.web.frame import Done, Shards, frame
from trioworkers.web.guard import Visitor
from trioworkers.web.http import (
    HttpError,
    Receive,
    Request,
    Scope,
    Send,
    path_of,
    read_request,
    redirect,
    respond,
    start,
    until_gone,
    write,
)
from trioworkers.web.metrics import CONTENT_TYPE, metrics_text
from trioworkers.web.operations import Confirm, Operation
from trioworkers.web.pages import PAGES, PICTURES, Page
from trioworkers.web.polling import Polling
from trioworkers.web.rendering import STATIC, render
from trioworkers.web.section import WHOLE_PAGE, Section
from trioworkers.web.site import Site
from trioworkers.web.visit import Visit

logger = logging.getLogger("trioworkers.web")

HTML = "text/html; charset=utf-8"
_OURS = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f-\uffff]*")
"""An address below our root, and of no other host."""


class Application:
    """The pages of one site. To stand behind a `Guard`. `shards`: those beside it, and which one it is."""

    def __init__(self, site: Site, shards: Shards | None = None, polling: Polling | None = None) -> None:
        self._site = site
        self._polling = polling or Polling()
        self._shards = shards

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        root, path = path_of(scope)
        if path.startswith("/static/") or path == "/favicon.ico":  # browsers ask for that where a page can't tell them
            await send_file(send, "icon.svg" if path == "/favicon.ico" else path.removeprefix("/static/"))
            return
        request = Request(scope["method"], root, path, [], [], {})
        try:
            request = await read_request(scope, receive)
            await until_gone(receive, send, partial(self._answer, request, scope["trioworkers.visitor"]))
        except Exception as error:  # noqa: BLE001 - a page that says what went wrong; nothing else is touched by it
            await self._fail(request, scope["trioworkers.visitor"], send, error)

    async def _answer(self, request: Request, visitor: Visitor, send: Send) -> None:
        if request.method == "POST":
            await self._press(request, visitor, send)
        elif request.method not in ("GET", "HEAD"):
            raise HttpError(405, "pages are asked for with GET, buttons with POST")
        elif request.path in PICTURES:
            async with visiting(self._site, request, visitor) as visit:
                picture = await PICTURES[request.path](visit)
            await respond(send, 200, picture, "image/svg+xml")
        elif request.path == "/metrics":
            # Of many who scrape at once, or never read, all get the same text.
            metrics = await self._site.fresh("metrics", partial(self._metrics, request, visitor))
            await respond(send, 200, metrics, CONTENT_TYPE)
        elif page := PAGES.get(request.path):
            await self._show(page, request, visitor, send)
        else:
            raise HttpError(404, "there is no such page")

    async def _metrics(self, request: Request, visitor: Visitor) -> bytes:
        async with visiting(self._site, request, visitor) as visit:
            return await metrics_text(visit)

    async def _show(self, page: Page, request: Request, visitor: Visitor, send: Send) -> None:
        head, foot = self._frame(page.title, request, visitor, live=page.live)
        if page.live and not page.slow:  # many tabs have it open: it is drawn for all of them at once
            name = f"page:{visitor.may} {request.root}{request.here}"
            body = await self._site.fresh(name, partial(self._drawn, page, request, visitor))
            await respond(send, 200, head + body + foot, HTML)
            return
        if not page.slow:  # who reads slowly, or never, has no connection to Redis meanwhile
            body = await self._drawn(page, request, visitor)
            await respond(send, 200, head + body + foot, HTML)
            return
        await self._stream(page, request, visitor, send, (head, foot))

    async def _stream(self, page: Page, request: Request, visitor: Visitor, send: Send, frame: tuple[str, str]) -> None:
        """The head goes out at once, the parts as they come. What who reads slowly hasn't taken yet waits for them here, and holds up nobody else."""
        found, finds = trio.open_memory_channel[tuple[str, bool]](math.inf)  # a page has its bounds
        failed: list[Exception] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, finds, send)
            async with found:
                try:
                    await self._find_parts(page, request, visitor, found, frame)
                except Exception as error:  # noqa: BLE001 - raised below, without the nursery's group around it
                    failed.append(error)
        if failed:
            raise failed[0]

    async def _drawn(self, page: Page, request: Request, visitor: Visitor) -> str:
        async with visiting(self._site, request, visitor) as visit, aclosing(rendered(page, visit)) as parts:
            return "".join([part async for part in parts])

    async def _find_parts(
        self,
        page: Page,
        request: Request,
        visitor: Visitor,
        found: trio.MemorySendChannel[tuple[str, bool]],
        frame: tuple[str, str],
    ) -> None:
        """What goes wrong once the head is out, and that it took too long, is told where the page has got to."""
        has_begun = False
        try:
            async with visiting(self._site, request, visitor) as visit, aclosing(rendered(page, visit)) as parts:
                found.send_nowait((frame[0], True))
                has_begun = True
                with self._site.redis.explained():
                    async for part in parts:
                        found.send_nowait((part, True))
        except trio.BrokenResourceError:  # nobody takes them any more
            raise
        except Exception as error:
            if not has_begun:
                raise
            found.send_nowait((render("error.html", {"text": said(error)[1], "again": False}), True))
        found.send_nowait((frame[1], False))

    async def _press(self, request: Request, visitor: Visitor, send: Send) -> None:
        button = BUTTONS.get(request.path)
        if button is None:
            raise HttpError(404, "there is no such button")
        async with visiting(self._site, request, visitor) as visit:
            pressed = await button(visit)
            self._site.forget()
        if isinstance(pressed, Confirm):
            head, foot = self._frame("Are you sure?", request, visitor)
            body = render("confirm.html", {"visit": visit, "url": visit.url, "confirm": pressed})
            await respond(send, 200, head + body + foot, HTML)
        else:
            await redirect(send, back_from(request, [pressed]))

    async def _fail(self, request: Request, visitor: Visitor, send: Send, error: Exception) -> None:
        status, text = said(error)
        try:
            head, foot = self._frame("That did not work", request, visitor)
            body = render("error.html", {"text": text, "again": request.method == "GET" and status >= 500})
            await respond(send, status, head + body + foot, HTML)
        except Exception:  # noqa: BLE001 - some of the page is under way, or the browser is gone: there is nobody to tell
            logger.debug("dashboard: could not say that %s", text)

    def _frame(self, title: str, request: Request, visitor: Visitor, *, live: bool = False) -> tuple[str, str]:
        operation = self._site.operations.get(request.get("did"))
        live_s = self._polling.asked() if live else None
        done = () if operation is None else (Done(operation, "", request.root),)
        where = str(self._site.redis)
        return frame(title, request, visitor, where=where, shards=self._shards, done=done, live_s=live_s)


async def _pass_on(finds: trio.MemoryReceiveChannel[tuple[str, bool]], send: Send) -> None:
    """Write what is found: nothing, if nothing is."""
    async with finds:
        has_begun = False
        async for text, more in finds:
            if not has_begun:
                await start(send, 200, HTML)
                has_begun = True
            await write(send, text, more=more)


@asynccontextmanager
async def visiting(site: Site, request: Request, visitor: Visitor) -> AsyncIterator[Visit]:
    """A visit with its session, within the bounds of time and of how many there may be."""
    with trio.fail_after(PAGE_S):
        async with site.pages, site.session() as session:
            yield Visit(site, request, visitor, session)


async def rendered(page: Page, visit: Visit, section: Section = WHOLE_PAGE) -> AsyncGenerator[str, None]:
    """The parts of a page, as they come, as they stand in `section`."""
    async with aclosing(page.parts(visit)) as parts:
        async for template, values in parts:
            yield render(template, {"visit": visit, "url": visit.url, "section": section, **values})


def back_from(request: Request, operations: Sequence[Operation]) -> str:
    """To where the button was, and what came of it shown there."""
    path = request.get("back")
    if not _OURS.fullmatch(path):
        path = "/"
    return f"{request.root}{path}{'&' if '?' in path else '?'}{urlencode([('did', each.id) for each in operations])}"


async def send_file(send: Send, name: str) -> None:
    """One of `STATIC`."""
    content_type, body = STATIC.get(name, ("", b""))
    if content_type:
        await respond(send, 200, body, content_type, [("cache-control", "public, max-age=31536000, immutable")])
    else:
        await respond(send, 404, "no such file\n", "text/plain; charset=utf-8")
