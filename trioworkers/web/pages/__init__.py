"""All pages, by address: this table is the order of the menu. A page is a small file with a function that yields templates and what they show, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from trioworkers.web.pages.batches import BATCH, BATCHES
from trioworkers.web.pages.busy import BUSY
from trioworkers.web.pages.cron import CRON
from trioworkers.web.pages.doctor import DOCTOR
from trioworkers.web.pages.finished import FINISHED
from trioworkers.web.pages.hosts import HOSTS
from trioworkers.web.pages.job import JOB, PAYLOAD
from trioworkers.web.pages.limits import LIMITS
from trioworkers.web.pages.lists import LISTS
from trioworkers.web.pages.locks import LOCKS
from trioworkers.web.pages.operations import OPERATIONS
from trioworkers.web.pages.outbox import OUTBOX
from trioworkers.web.pages.overview import OVERVIEW
from trioworkers.web.pages.page import Page
from trioworkers.web.pages.processes import PROCESSES
from trioworkers.web.pages.queues import QUEUE, QUEUES
from trioworkers.web.pages.rates import rates_picture
from trioworkers.web.pages.search import SEARCH
from trioworkers.web.pages.waiting import waiting_picture
from trioworkers.web.visit import Visit

__all__ = ["MENU", "PAGES", "PICTURES", "Page"]

MENU = (
    OVERVIEW,
    BUSY,
    QUEUES,
    *LISTS,
    FINISHED,
    SEARCH,
    CRON,
    BATCHES,
    LIMITS,
    LOCKS,
    PROCESSES,
    HOSTS,
    DOCTOR,
    OPERATIONS,
)
"""In the order in which they are shown."""

PAGES: Mapping[str, Page] = {page.path: page for page in (*MENU, QUEUE, JOB, PAYLOAD, BATCH, OUTBOX)}

PICTURES: Mapping[str, Callable[[Visit], Awaitable[str]]] = {
    "/rates.svg": rates_picture,
    "/waiting.svg": waiting_picture,
}
