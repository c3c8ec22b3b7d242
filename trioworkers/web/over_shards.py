"""Buttons over several shards: the same button in each, at the same time. What was done and what failed is said of each, and an undo or a stop is each one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import trio

from trioworkers.errors import WrongUsage
from trioworkers.shards import called
from trioworkers.web.application import visiting
from trioworkers.web.buttons import BUTTONS
from trioworkers.web.failures import said
from trioworkers.web.frame import below
from trioworkers.web.guard import Visitor
from trioworkers.web.http import HttpError, Request
from trioworkers.web.job_buttons import acts_for
from trioworkers.web.operations import Confirm, Operation, Pressed
from trioworkers.web.pages import Page
from trioworkers.web.pages.lists import LISTS
from trioworkers.web.pages.queues import QUEUE
from trioworkers.web.site import Site
from trioworkers.wire.places import Location, all_places

BUTTONS_OF_ALL = frozenset({"/do/act", "/do/pause", "/do/resume", "/do/purge"})


@attrs.frozen
class ConfirmAll:
    """What each shard says will be done there, in words, or why nothing will; and the form that does it in those that were asked."""

    texts: Sequence[tuple[str, str, bool]]
    path: str
    fields: Sequence[tuple[str, str]]
    yes: str


async def press_in_all(sites: Mapping[str, Site], request: Request, visitor: Visitor) -> ConfirmAll | list[Operation]:
    """Press it in all, or in those that were confirmed. Raises HttpError for a button that is one shard's only."""
    if request.path not in BUTTONS_OF_ALL:
        raise HttpError(405, "this button is on the pages of one shard")
    if request.path == "/do/act" and not request.get("all"):
        raise WrongUsage("jobs that are ticked lie in one shard: press the button there")
    chosen = _chosen(sites, request)
    found: dict[str, Pressed | str] = {}

    async def note(name: str) -> None:
        found[name] = await _press(name, sites[name], request, visitor)

    async with trio.open_nursery() as nursery:
        for name in chosen:
            nursery.start_soon(note, name)
    asked = {name: pressed for name in chosen if isinstance(pressed := found[name], Confirm)}
    if asked:
        return _confirm(chosen, found, asked)
    what = f"{request.path.removeprefix('/do/')} {' '.join((request.get('act'), *request.all('queue'), *request.all('class')))}"
    return [
        sites[name].operations.refused(what.strip(), visitor.who, pressed) if isinstance(pressed, str) else pressed
        for name in chosen
        if not isinstance(pressed := found[name], Confirm)
    ]


def _chosen(sites: Mapping[str, Site], request: Request) -> list[str]:
    """Those that the form names, else all."""
    named = {name.removeprefix("~") for name in request.all("shard")}
    if unknown := named - set(sites):
        raise WrongUsage(f"there is no {called(min(unknown))[:80]}")
    return [name for name in sites if not named or name in named]


async def _press(name: str, site: Site, request: Request, visitor: Visitor) -> Pressed | str:
    """What came of it in one shard; or why nothing did."""
    here = attrs.evolve(request, root=f"{request.root}{below(name)}")
    try:
        async with visiting(site, here, visitor) as visit:
            return await BUTTONS[request.path](visit)
    except Exception as error:  # noqa: BLE001 - of one shard; it is said beside what came of the others
        return said(error)[1]
    finally:
        site.forget()


def _confirm(chosen: Sequence[str], found: Mapping[str, Pressed | str], asked: Mapping[str, Confirm]) -> ConfirmAll:
    """Only those that said what would be done are in its form: what one holds that is back meanwhile nobody has been asked about."""
    first = next(iter(asked.values()))
    texts = [
        (
            called(name),
            asked[name].text if name in asked else f"nothing will be done there: {found[name]}",
            name in asked,
        )
        for name in chosen
    ]
    return ConfirmAll(texts, first.path, [*first.fields, *(("shard", f"~{name}") for name in asked)], first.yes)


def bar_of(page: Page, request: Request, visitor: Visitor) -> dict[str, Any] | None:
    """The buttons that a page of all shards has above their sections; None: it has none."""
    if visitor.may != "write":
        return None
    if page is QUEUE and request.get("name"):
        queue = request.get("name")
        return {"where": f"queue:{queue}", "queue": queue, "acts": acts_for(Location("queue", queue))}
    places = [place for place in all_places() if page in LISTS and page.path == f"/{place.command}"]
    return (
        {"where": place.name, "queue": "", "acts": acts_for(Location(place.name))}
        if (place := next(iter(places), None))
        else None
    )
