"""docs/hooks.md: its programs do what it says, with the real Sentry SDK and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sentry_sdk
from pages import programs
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from trioworkers import App, Job, testing


def app_of(name: str) -> App:
    names: dict[str, Any] = {}
    exec(programs("hooks.md")[name], names)
    app: App = names["app"]

    @app.handler("q", "Fail")
    async def fail(secret: str) -> None:
        raise ValueError("no such user")

    return app


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        if (event := envelope.get_event()) is not None:
            self.events.append(event)


@pytest.fixture
def sentry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    kept, init = Kept(), sentry_sdk.init
    monkeypatch.setattr(
        sentry_sdk, "init", lambda: init("https://key@sentry.example/1", transport=kept, default_integrations=False)
    )
    yield kept
    init()


async def test_sentry_is_told_of_each_failure_with_its_job(autojump_clock: Any, sentry: Kept):
    job = Job("q", "Fail", ["secret argument"], retry=1)
    async with testing.run(app_of("sentry_app.py")) as test:
        await test.enqueue(job, Job("q", "Nobody", retry=0))
        await test.drain(retries=True)
    told = [(event["tags"]["job_class"], event["exception"]["values"][-1]["type"]) for event in sentry.events]
    assert sorted(told) == [("Fail", "ValueError"), ("Fail", "ValueError"), ("Nobody", "UnknownClass")]
    mine = [event["contexts"]["job"] for event in sentry.events if event["tags"]["job_class"] == "Fail"]
    assert mine == [{"jid": job.jid, "attempt": 1}, {"jid": job.jid, "attempt": 2}]


async def test_chat_is_told_of_a_death(autojump_clock: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHAT_WEBHOOK", "https://chat.example/hook")
    posted: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        posted.append((str(request.url), json.loads(request.content)))
        return httpx.Response(200)

    job = Job("q", "Fail", ["x"], retry=1)
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with testing.run(app_of("chat_app.py"), http=http) as test:
        await test.enqueue(job)
        await test.drain(retries=True)
    text = f"Fail {job.jid} is dead after 2 attempts: ValueError: no such user"
    assert posted == [("https://chat.example/hook", {"text": text})]
