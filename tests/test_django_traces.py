"""Traces of Django's tasks, by the real SDK: from a request through a task to what it sends, in threads and in processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id
from servers import ROOT, Server


@pytest.fixture(scope="module", autouse=True)
def _project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_SETTINGS_MODULE", "django_probe.settings")
        patch.setenv("PROBE_DATABASE", str(tmp_path_factory.mktemp("traced") / "db.sqlite3"))
        patch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
        import django

        django.setup()
        yield
        from django.db import connections

        connections.close_all()


@pytest.fixture
def tasks(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    from django_probe import tasks

    from trioworkers.django import backend

    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setattr(backend, "_CLIENTS", {})
    return tasks


@pytest.fixture
def spans() -> Callable[[str], list[ReadableSpan]]:
    from django_probe.spans import EXPORTER

    EXPORTER.clear()
    return lambda name: [span for span in EXPORTER.get_finished_spans() if span.name == name]


def request() -> Any:
    from django_probe.spans import PROVIDER

    return PROVIDER.get_tracer("test").start_as_current_span("a web request")


def ids(span: Any) -> list[str]:
    found = span.get_span_context()
    return [format_trace_id(found.trace_id), format_span_id(found.span_id)]


def carried(server: Server, queue: str) -> list[str]:
    """Trace and span that the last job says, where Ruby looks for them."""
    return list(json.loads(str(server.command("LINDEX", f"queue:{queue}", 0)))["traceparent"].split("-")[1:3])


async def ran(result: Any, alias: str) -> Any:
    """What the task returned, run by a worker of its backend."""
    from trioworkers.django.running import worker_app

    def looked() -> bool:
        result.refresh()
        return bool(result.is_finished)

    app = worker_app(alias, [alias])
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        with trio.fail_after(60):
            while not await trio.to_thread.run_sync(looked):
                await trio.sleep(0.01)
        worker.stop(0.0)
    return result.return_value


async def test_a_task_continues_the_trace_of_the_request_that_sent_it(
    tasks: Any, spans: Callable[[str], list[ReadableSpan]], shared_server: Server
):
    with request() as span:
        result = await trio.to_thread.run_sync(lambda: asyncio.run(tasks.traced.aenqueue()))
    (sent,) = spans("send traced")
    assert sent.kind is SpanKind.PRODUCER
    assert carried(shared_server, "traced") == ids(sent)
    *within, _ = await ran(result, "traced")
    (attempt,) = spans("process traced")
    assert (attempt.kind, attempt.attributes["messaging.message.id"]) == (SpanKind.CONSUMER, result.id)  # type: ignore[index]
    assert within == ids(attempt)  # the task's own spans, and those of its queries, are in that trace
    (follows,) = spans("send not-served")
    assert {ids(each)[0] for each in (span, sent, attempt, follows)} == {ids(span)[0]}
    assert follows.parent.span_id == attempt.get_span_context().span_id  # type: ignore[union-attr]
    assert carried(shared_server, "not-served") == ids(follows)


async def test_a_task_in_a_process_of_its_own_is_in_the_trace(tasks: Any, spans: Callable[[str], list[ReadableSpan]]):
    with request() as span:
        result = await trio.to_thread.run_sync(tasks.traced_apart.enqueue)
    within = await ran(result, "traced-apart")
    (attempt,) = spans("process traced-apart")
    assert within == ids(attempt)
    assert within[0] == ids(span)[0]


def test_what_goes_out_with_a_commit_belongs_to_who_enqueued_it(
    tasks: Any, spans: Callable[[str], list[ReadableSpan]], shared_server: Server
):
    from django.db import transaction

    with transaction.atomic():
        with request() as span:
            tasks.traced.enqueue()
        assert spans("send traced") == []
    (sent,) = spans("send traced")
    assert ids(sent)[0] == ids(span)[0]
    assert carried(shared_server, "traced") == ids(sent)
    assert not trace.get_current_span().get_span_context().is_valid


def test_without_telemetry_a_payload_says_nothing_of_traces(tasks: Any, shared_server: Server):
    with request():
        tasks.add.enqueue(1)
    assert "traceparent" not in json.loads(str(shared_server.command("LINDEX", "queue:default", 0)))


def test_telemetry_is_one():
    from django.core.exceptions import ImproperlyConfigured

    from trioworkers.django import TasksBackend

    with pytest.raises(ImproperlyConfigured, match=r"telemetry is OpenTelemetry\(\)"):
        TasksBackend("x", {"OPTIONS": {"telemetry": True}})
