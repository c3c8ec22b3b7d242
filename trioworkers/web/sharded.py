"""The dashboard of an App with several Redises.

Below `/shards/~NAME` each has all its pages and buttons, so a button acts where its page is; above them the same
pages show all shards, one after the other, and some buttons act in all of them. One that is away is told where it would stand, and holds up none of the others.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import attrs
import trio
from markupsafe import Markup

from trioworkers.errors import NotFound
from trioworkers.shards import called
from trioworkers.web.application import HTML, Application, back_from, rendered, send_file, visiting
from trioworkers.web.failures import said
from trioworkers.web.frame import OF_ONE_SHARD, Done, Shards, below, frame
from trioworkers.web.guard import Visitor
from trioworkers.web.http import (
    HttpError,
    Receive,
    Request,
    Scope,
    Send,
    address,
    path_of,
    read_request,
    redirect,
    respond,
    start,
    until_gone,
    write,
)
from trioworkers.web.metrics import CONTENT_TYPE, families_of, metrics_of_all
from trioworkers.web.over_shards import ConfirmAll, bar_of, press_in_all
from trioworkers.web.pages import PAGES, Page
from trioworkers.web.pages.lists import LISTS
from trioworkers.web.pages.search import SEARCH
from trioworkers.web.pages.shards import overview_of_all
from trioworkers.web.pages.snapshot import snapshot_of
from trioworkers.web.polling import Polling
from trioworkers.web.rendering import render
from trioworkers.web.section import Section
from trioworkers.web.site import OwnMetrics, Site
from trioworkers.web.visit import Visit

T = TypeVar("T")

_BELOW = re.compile(r"/shards/~([\w.-]{0,64})(/.*)?", re.ASCII)
AWAY_S = 5.0
"""A shard that gave no answer isn't asked again for so long, for what shows all of them."""
PATIENCE_S = 3.0


class Sharded:
    """The pages of several sites, by their shards. To stand behind a `Guard`."""

    def __init__(self, sites: Mapping[str, Site], metrics: OwnMetrics | None = None) -> None:
        self._sites = sites
        self._shards = Shards(tuple(sites))
        self._polling = Polling()
        self._applications = {
            name: Application(site, Shards(self._shards.names, name), self._polling) for name, site in sites.items()
        }
        self._metrics = metrics
        self._away: dict[str, tuple[float, str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        root, path = path_of(scope)
        if found := _BELOW.fullmatch(path):
            name, rest = found[1], found[2] or "/"
            if name in self._applications:
                top = f"{root}{below(name)}"
                await self._applications[name]({**scope, "root_path": top, "path": f"{top}{rest}"}, receive, send)
                return
        if path.startswith("/static/") or path == "/favicon.ico":
            await send_file(send, "icon.svg" if path == "/favicon.ico" else path.removeprefix("/static/"))
            return
        request = Request(scope["method"], root, path, [], [], {})
        visitor: Visitor = scope["trioworkers.visitor"]
        try:
            request = await read_request(scope, receive)
            await until_gone(receive, send, partial(self._answer, request, visitor))
        except Exception as error:  # noqa: BLE001 - a page that says what went wrong; nothing else is touched by it
            await self._fail(request, visitor, send, error)

    async def _answer(self, request: Request, visitor: Visitor, send: Send) -> None:
        if request.method == "POST":
            await self._press(request, visitor, send)
        elif request.method not in ("GET", "HEAD"):
            raise HttpError(405, "pages are asked for with GET, buttons with POST")
        elif request.path == "/metrics":
            text = await metrics_of_all(await self._of_each(request, visitor, families_of), self._metrics)
            await respond(send, 200, text, CONTENT_TYPE)
        elif request.path == "/":
            states = await self._of_each(request, visitor, snapshot_of)
            head, foot = self._frame("All shards", request, visitor, live=True)
            await respond(send, 200, head + render("shards.html", overview_of_all(states, request)) + foot, HTML)
        elif page := PAGES.get(request.path):
            await self._show(page, request, visitor, send)
        else:
            raise HttpError(404, "there is no such page")

    async def _press(self, request: Request, visitor: Visitor, send: Send) -> None:
        pressed = await press_in_all(self._sites, request, visitor)
        if isinstance(pressed, ConfirmAll):
            head, foot = self._frame("Are you sure?", request, visitor)
            values = {"confirm": pressed, "url": partial(address, request.root), "back": request.get("back") or "/"}
            await respond(send, 200, head + render("confirm_all.html", values) + foot, HTML)
        else:
            await redirect(send, back_from(request, pressed))

    async def _fail(self, request: Request, visitor: Visitor, send: Send, error: Exception) -> None:
        status, text = said(error)
        try:
            head, foot = self._frame("That did not work", request, visitor)
            body = render("error.html", {"text": text, "again": request.method == "GET" and status >= 500})
            await respond(send, status, head + body + foot, HTML)
        except trio.BrokenResourceError:  # the browser is gone: there is nobody to tell
            return

    def _frame(self, title: str, request: Request, visitor: Visitor, *, live: bool = False) -> tuple[str, str]:
        where = f"{len(self._sites)} shards"
        live_s = self._polling.asked() if live else None
        done = [
            Done(operation, called(name), f"{request.root}{below(name)}")
            for name, site in self._sites.items()
            for id_ in request.all("did")[: len(self._sites)]
            if (operation := site.operations.get(id_))
        ]
        return frame(title, request, visitor, where=where, shards=self._shards, done=done, live_s=live_s)

    async def _of_each(
        self, request: Request, visitor: Visitor, look: Callable[[Visit], Awaitable[T]]
    ) -> dict[str, T | str]:
        """What is found in each, or why nothing is; all are asked at once."""
        found: dict[str, T | str] = {}

        async def note(name: str) -> None:
            found[name] = await self._of(name, request, visitor, look)

        async with trio.open_nursery() as nursery:
            for name in self._sites:
                nursery.start_soon(note, name)
        return {name: found[name] for name in self._sites}

    async def _of(
        self, name: str, request: Request, visitor: Visitor, look: Callable[[Visit], Awaitable[T]]
    ) -> T | str:
        until, text = self._away.get(name, (0.0, ""))
        if trio.current_time() < until:
            return text
        here = attrs.evolve(request, root=f"{request.root}{below(name)}")
        try:
            with trio.fail_after(PATIENCE_S):
                async with visiting(self._sites[name], here, visitor) as visit:
                    return await look(visit)
        except Exception as error:  # noqa: BLE001 - of one shard; it is said in its place
            text = f"no answer within {PATIENCE_S:g} s" if isinstance(error, trio.TooSlowError) else said(error)[1]
            self._away[name] = trio.current_time() + AWAY_S, text
            return text

    async def _show(self, page: Page, request: Request, visitor: Visitor, send: Send) -> None:
        """The page of each shard, as soon as those before it are there."""
        head, foot = self._frame(page.title, request, visitor, live=page.live)
        await start(send, 200, HTML)
        values: dict[str, Any] = {
            "title": page.title,
            "query": request.get("q"),
            "root": request.root,
            "path": page.path,
        }
        with_filter = page in (*LISTS, SEARCH)
        values |= {"with_filter": with_filter, "bar": bar_of(page, request, visitor), "here": request.here}
        await write(send, head + render("all_shards.html", values), more=True)
        parts: dict[str, str] = {}
        there = {name: trio.Event() for name in self._sites}

        async def look(name: str, site: Site) -> None:
            draw = partial(self._section, page, request, visitor, name, site)
            kept = f"page:{visitor.may} of all {request.root}{request.here}"
            parts[name] = await (site.fresh(kept, draw) if page.live else draw())
            there[name].set()

        async with trio.open_nursery() as nursery:
            for name, site in self._sites.items():
                nursery.start_soon(look, name, site)
            for name in self._sites:
                await there[name].wait()
                await write(send, parts.pop(name), more=True)
        await write(send, foot, more=False)

    async def _section(self, page: Page, request: Request, visitor: Visitor, name: str, site: Site) -> str:
        """What one shard's page shows, with addresses and buttons of its own."""
        here = attrs.evolve(request, root=f"{request.root}{below(name)}")
        section = Section(name, 3 if page.path in OF_ONE_SHARD else 0)
        text, problem, missing = "", "", False
        try:
            async with visiting(site, here, visitor) as visit, aclosing(rendered(page, visit, section)) as parts:
                async for part in parts:
                    text += part
        except Exception as error:  # noqa: BLE001 - of one shard; it is said in its place
            missing, problem = isinstance(error, NotFound), said(error)[1]
        values = {
            "section": section,
            "name": called(name),
            "url": f"{here.root}{here.here}",
            "body": Markup(text),  # noqa: S704 - rendered, so escaped
            "problem": problem,
            "missing": missing,
        }
        return render("one_shard.html", values)
