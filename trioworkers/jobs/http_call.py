"""One HTTP call of a fan-out, from its request to what its answer means."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from trioworkers.errors import CallFailed
from trioworkers.http.failure import SAFE_METHODS, check_status, is_good, shown_status

if TYPE_CHECKING:
    import httpx

SEE_OTHER = 303
SAME_ELSEWHERE = frozenset({307, 308})
"""Statuses that have the same request sent to somebody else."""

logger = logging.getLogger("trioworkers.job")


class HttpCall:
    """Makes a call once. `finished` is told its name as soon as it is known to be done: that may be before its answer's body is read.

    A status that was read counts. Whatever becomes of the body after a success, sending a POST again would have it done twice; what only
    asks was in vain without it. A 303 that is followed says the same: it is done, and what came of it is to be seen elsewhere.
    """

    __slots__ = ("_client", "_expect", "_finished", "_follows", "_has_turn", "_heard", "_is_done", "_jid", "_name")

    def __init__(
        self,
        client: httpx.AsyncClient,
        jid: str,
        name: str,
        expect: Collection[int] | None,
        finished: Callable[[str], None],
        has_turn: bool,
    ) -> None:
        self._client = client
        self._jid = jid
        self._name = name
        self._expect = expect
        self._finished = finished
        self._has_turn = has_turn
        self._heard: httpx.Response | None = None
        self._is_done = self._follows = False

    async def make(self, method: str, url: str, headers: dict[str, str], options: dict[str, Any]) -> httpx.Response:
        """The response to a success. Raises what `failure_of` understands."""
        try:
            response = await self._exchange(method, url, headers, options)
            if not self._is_done or getattr(response, "history", None):
                check_status(response, self._expect)
        except Exception as error:  # noqa: BLE001 - whatever it is, what was heard before it counts
            response = self._in_spite_of(error)
        return response

    def _exchange(
        self, method: str, url: str, headers: dict[str, str], options: dict[str, Any]
    ) -> Awaitable[httpx.Response]:
        client = self._client
        exchange = getattr(client, "exchange", None)  # the shared client's shorter way; others have the usual one
        hear = self._hear_ask if method.upper() in SAFE_METHODS else self._hear_change
        self._follows = options.get("follow_redirects", getattr(client, "follow_redirects", False)) is True
        if exchange is not None:
            sent: Awaitable[httpx.Response] = exchange(method, url, headers, options, hear, has_turn=self._has_turn)
            return sent
        if not _streams(type(client)):
            return client.request(method, url, headers=headers, **options)
        return _stream(client.stream(method, url, headers=headers, **options), hear)

    def _hear_ask(self, response: httpx.Response) -> None:
        if not self._goes_on(response):
            self._heard = response

    def _hear_change(self, response: httpx.Response) -> None:
        if response.status_code in SAME_ELSEWHERE and self._goes_on(response):
            return  # nothing has been changed yet
        if self._is_done and not is_good(response, self._expect):
            return  # to be seen elsewhere, and there it isn't
        self._heard = response
        if is_good(response, self._expect) or (response.status_code == SEE_OTHER and self._follows):
            self._is_done = True
            self._finished(self._name)

    def _goes_on(self, response: httpx.Response) -> bool:
        """Whether it only says where to ask, and is followed: then what comes of it there counts."""
        return self._follows and getattr(response, "has_redirect_location", False) is True

    def _in_spite_of(self, error: Exception) -> httpx.Response:
        """The response whose status was heard before `error`. Raises it, or what else the call failed with."""
        response = self._heard
        if response is None:
            if isinstance(error, TypeError | UnicodeError):  # no such request can be made, now or later
                raise CallFailed(self._name, f"{type(error).__name__}: {error}", permanent=True) from error
            raise error
        if not self._is_done:
            check_status(response, self._expect)
            raise error
        text = "call %s of jid=%s: %s, but what comes after it can't be read (%s: %s): it counts as done, and is not sent again"
        values = (self._name, self._jid, shown_status(response), type(error).__name__, error)
        logger.warning(text, *values, extra={"jid": self._jid})
        if (came_without_body := getattr(response, "came_without_body", None)) is not None:
            came_without_body(error)
        return response


async def _stream(
    streamed: AbstractAsyncContextManager[httpx.Response], hear: Callable[[httpx.Response], None]
) -> httpx.Response:
    async with streamed as response:
        hear(response)
        await response.aread()
    return response


def _streams(kind: type) -> bool:
    """Whether a client's `stream` does what its `request` does: not where somebody has overridden only that."""
    definers = [next((each for each in kind.__mro__ if name in vars(each)), None) for name in ("request", "stream")]
    return definers[0] is definers[1]
