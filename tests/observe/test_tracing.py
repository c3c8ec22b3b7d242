"""Spans by the real SDK's exporter: of attempts, of what is sent, of calls; and a payload as Ruby's instrumentation writes it."""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from servers import Server

import trioworkers.asyncio
from trioworkers import App, Batch, Bury, ConfigurationError, Context, Job, RetryAfter
from trioworkers.observe.metrics import Metrics
from trioworkers.observe.tracing import OpenTelemetry
from trioworkers.process.log_formats import JsonFormatter

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RUBYS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=x", "baggage": "customer=7"}


class Spans:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.all(name)
        return found


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture(autouse=True)
def _no_trace_in_other_tests_logs() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


def make_app(redis_url: str, spans: Spans, **options: Any) -> App:
    app = App(redis_url, telemetry=OpenTelemetry(tracer_provider=spans.provider, **options))
    app.queue("q", concurrency=5)
    return app


@asynccontextmanager
async def running(app: App) -> AsyncIterator[Callable[[int], Any]]:
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)

        async def settled(count: int) -> None:
            with trio.fail_after(30):
                while worker.stats().settled < count:
                    await trio.sleep(0.01)

        yield settled
        worker.stop(0.0)


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


def links(span: ReadableSpan) -> list[tuple[str, str]]:
    return [(format_trace_id(link.context.trace_id), format_span_id(link.context.span_id)) for link in span.links]


def push(server: Server, **fields: Any) -> None:
    job = {
        "class": "Fine",
        "args": [],
        "queue": "q",
        "retry": True,
        "jid": "a" * 24,
        "created_at": time.time(),
        **fields,
    }
    server.command("LPUSH", "queue:q", json.dumps(job))


@pytest.mark.parametrize("child", [False, True])
async def test_an_attempt_joins_the_trace_that_ruby_began(
    redis_url: str, shared_server: Server, spans: Spans, child: bool
):
    app = make_app(redis_url, spans, child=child)

    @app.handler("q", "Fine")
    async def fine(ctx: Context) -> None:
        ctx.enqueue(Job("elsewhere", "Next"))

    async with running(app) as settled:
        push(shared_server, **RUBYS)
        await settled(1)
    span = spans.one("process q")
    assert span.kind is SpanKind.CONSUMER
    assert span.attributes is not None
    assert dict(span.attributes) == {
        "messaging.system": "sidekiq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "q",
        "messaging.message.id": "a" * 24,
        "messaging.sidekiq.job_class": "Fine",
    }
    assert span.status.status_code is StatusCode.UNSET
    if child:
        assert ids(span)[0] == TRACE
        assert span.parent is not None
        assert format_span_id(span.parent.span_id) == PARENT
    else:
        assert span.parent is None
        assert links(span) == [(TRACE, PARENT)]
    sent = spans.one("send elsewhere")
    assert sent.kind is SpanKind.PRODUCER
    assert ids(sent)[0] == ids(span)[0]
    follow_up = json.loads(str(shared_server.command("LINDEX", "queue:elsewhere", 0)))
    assert follow_up["traceparent"].split("-")[1:3] == list(ids(sent))
    assert follow_up["baggage"] == "customer=7"  # at the top level, where Ruby looks for it


async def test_what_was_sent_long_ago_is_linked(redis_url: str, shared_server: Server, spans: Spans):
    app = make_app(redis_url, spans, child=True)

    @app.handler("q", "Fine")
    async def fine(_: Context) -> None: ...

    async with running(app) as settled:
        push(shared_server, **RUBYS, created_at=time.time() - 7200)
        await settled(1)
    assert links(spans.one("process q")) == [(TRACE, PARENT)]


async def test_odd_fields_begin_a_trace_of_their_own(redis_url: str, shared_server: Server, spans: Spans):
    app = make_app(redis_url, spans)

    @app.handler("q", "Fine")
    async def fine(_: Context) -> None: ...

    odd: list[dict[str, Any]] = [
        {"traceparent": "nonsense"},
        {"traceparent": 7, "baggage": ["x"]},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": RUBYS["traceparent"], "baggage": "x" * 100_000, "tracestate": {}},
        {"traceparent": "x" * 100_000},
        {"traceparent": "\x1b[31m", "tracestate": "=,=,="},
    ]
    async with running(app) as settled:
        for number, fields in enumerate(odd):
            push(shared_server, jid=f"{number:024x}", **fields)
        await settled(len(odd))
    assert len(spans.all("process q")) == len(odd)
    assert {span.status.status_code for span in spans.all("process q")} == {StatusCode.UNSET}


async def test_failures_and_what_is_none(redis_url: str, shared_server: Server, spans: Spans):
    app = make_app(redis_url, spans)
    started = trio.Event()

    @app.handler("q", "Fails")
    async def fails(_: Context) -> None:
        raise ValueError("no")

    @app.handler("q", "Later")
    async def later(_: Context) -> None:
        raise RetryAfter(600, "busy there")

    @app.handler("q", "Buried")
    async def buried(_: Context) -> None:
        raise Bury("hopeless")

    @app.handler("q", "Slow", timeout=0.05)
    async def slow(_: Context) -> None:
        await trio.sleep(60)

    @app.handler("q", "Stopped")
    async def stopped(_: Context) -> None:
        started.set()
        await trio.sleep(600)

    async with running(app) as settled:
        for name in ("Fails", "Later", "Buried", "Slow", "Unknown"):
            push(shared_server, **{"class": name, "jid": name.ljust(24, "0"), "retry_count": 1})
        await settled(5)
        push(shared_server, **{"class": "Stopped", "jid": "s" * 24})
        await started.wait()
    found = {(span.attributes or {})["messaging.sidekiq.job_class"]: span for span in spans.all("process q")}
    errors = {name: (span.attributes or {}).get("error.type") for name, span in found.items()}
    assert errors == {
        "Fails": "ValueError",
        "Later": None,
        "Buried": None,
        "Slow": "TooSlowError",
        "Unknown": "trioworkers.UnknownClass",
        "Stopped": None,
    }
    assert found["Stopped"].status.status_code is StatusCode.UNSET
    assert [event.name for event in found["Stopped"].events] == ["stopped"]
    assert [event.name for event in found["Fails"].events] == ["retry", "exception"]
    assert [event.name for event in found["Later"].events] == ["retry", "RetryAfter"]


async def test_checkpoints_are_events(redis_url: str, shared_server: Server, spans: Spans):
    app = make_app(redis_url, spans)

    @app.handler("q", "Fine")
    async def fine(ctx: Context) -> None:
        for name in ("charge", "pack"):
            await ctx.step(name, trio.sleep, 0)

    async with running(app) as settled:
        push(shared_server)
        await settled(1)
    assert [event.name for event in spans.one("process q").events] == ["checkpoint", "checkpoint"]


async def test_a_job_that_another_worker_took_over_says_so_and_is_no_error(
    redis_url: str, shared_server: Server, spans: Spans
):
    app = make_app(redis_url, spans)
    app.configure(process_id="w1", lease=1)
    started = trio.Event()

    @app.handler("q", "Fine")
    async def fine(_: Context) -> None:
        started.set()
        await trio.sleep_forever()

    async with running(app):
        push(shared_server)
        with trio.fail_after(30):
            await started.wait()
            # As it were after a long outage: our lease ran out, and somebody else has what was in our list.
            shared_server.command("LTRIM", "queue:q:w1:inprogress", 1, 0)
            shared_server.command("DEL", "tw:lease:w1")
            while not spans.all("process q"):
                await trio.sleep(0.02)
    span = spans.one("process q")
    assert [event.name for event in span.events] == ["taken over"]
    assert span.status.status_code is StatusCode.UNSET


async def test_clients_of_the_app_say_where_their_jobs_come_from(redis_url: str, shared_server: Server, spans: Spans):
    app = make_app(redis_url, spans)
    with spans.provider.get_tracer("test").start_as_current_span("a web request") as request:
        async with app.client() as client:
            await client.enqueue(Job("mail", "One"), Job("mail", "Two"))
            await client.schedule(60, Job("mail", "Later"))
        await trio.to_thread.run_sync(lambda: app.sync_client().enqueue(Job("mail", "Blocking")))
    both, later, blocking = spans.all("send mail")
    assert (both.attributes or {})["messaging.batch.message_count"] == 2
    assert {ids(span)[0] for span in (both, later, blocking)} == {ids(request)[0]}  # type: ignore[arg-type]
    payloads = [json.loads(each) for each in shared_server.command("LRANGE", "queue:mail", 0, -1)]  # type: ignore[union-attr]
    assert [each["class"] for each in payloads] == ["Blocking", "Two", "One"]
    assert payloads[1]["traceparent"] == payloads[2]["traceparent"]
    assert payloads[1]["traceparent"].split("-")[1:3] == list(ids(both))
    assert trioworkers.asyncio.Client  # shares what the blocking one does


async def test_calls_of_a_job_are_spans_and_services_are_told(redis_url: str, shared_server: Server, spans: Spans):
    heard: list[str | None] = []

    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers["traceparent"])
            self.send_response(200 if self.path.startswith("/fine") else 503)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{service.server_port}"
    app = make_app(redis_url, spans)
    metrics = Metrics(app)

    @app.handler("q", "Fine")
    async def fine(ctx: Context) -> None:
        async with ctx.fan_out() as calls:
            calls.get("good", f"{root}/fine?token=secret")
        await ctx.http.get(f"{root}/bad")

    async with running(app) as settled:
        push(shared_server)
        await settled(1)
    service.shutdown()
    service.server_close()
    good, bad = spans.all("GET")
    counted = metrics.text().decode()
    for outcome in ("2xx", "5xx"):
        assert f'trioworkers_http_calls_total{{host="127.0.0.1",outcome="{outcome}"}} 1.0' in counted
    attempt = spans.one("process q")
    assert {good.parent and good.parent.span_id, bad.parent and bad.parent.span_id} == {
        attempt.context and attempt.context.span_id
    }
    assert [text and text.split("-")[1:3] for text in heard] == [list(ids(good)), list(ids(bad))]
    assert (good.attributes or {})["url.full"] == f"{root}/fine"  # what is asked may be secret
    assert (bad.attributes or {})["error.type"] == "503"
    assert good.kind is SpanKind.CLIENT


async def test_logs_carry_the_trace(redis_url: str, shared_server: Server, spans: Spans):
    app = make_app(redis_url, spans)
    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    @app.handler("q", "Fine")
    async def fine(_: Context) -> None:
        logging.getLogger("mine").warning("hello")

    kept = Kept()
    logging.getLogger("mine").addHandler(kept)
    try:
        async with running(app) as settled:
            push(shared_server)
            await settled(1)
    finally:
        logging.getLogger("mine").removeHandler(kept)
    line = json.loads(JsonFormatter().format(records[0]))
    assert (line["trace_id"], line["span_id"]) == ids(spans.one("process q"))


def test_what_is_no_telemetry_is_said_where_it_is_declared():
    with pytest.raises(ConfigurationError, match="telemetry is OpenTelemetry"):
        App(telemetry="yes")  # type: ignore[arg-type]


async def test_batches_carry_the_trace_of_who_sends_them_and_of_the_job_that_does(
    redis_url: str, shared_server: Server, spans: Spans
):
    app = make_app(redis_url, spans)

    @app.handler("q", "Fine")
    async def fine(ctx: Context) -> None:
        batch = Batch("within")
        batch.add(*(Job("inner", "Member", runs_here=True) for _ in range(2)))
        ctx.enqueue(batch)

    with spans.provider.get_tracer("test").start_as_current_span("a web request") as request:
        async with app.client() as client:
            batch = Batch("outside", on_finished=Job("outer", "After"))
            batch.add(Job("outer", "Member", runs_here=True), Job("q", "Fine", runs_here=True))
            await client.enqueue(batch)
    async with running(app) as settled:
        await settled(1)
    sent = spans.all("send outer")[0]
    assert ids(sent)[0] == ids(request)[0]  # type: ignore[arg-type]
    attempt = spans.one("process q")
    assert links(attempt) == [ids(sent)]
    members = [json.loads(each) for each in shared_server.command("LRANGE", "queue:outer", 0, -1)]  # type: ignore[union-attr]
    assert [each["traceparent"].split("-")[1:3] for each in members] == [list(ids(sent))]
    inner = [json.loads(each) for each in shared_server.command("LRANGE", "queue:inner", 0, -1)]  # type: ignore[union-attr]
    assert {each["traceparent"].split("-")[1] for each in inner} == {ids(attempt)[0]}


async def test_what_is_not_sampled_says_so_to_whoever_comes_after(redis_url: str, shared_server: Server, spans: Spans):
    spans.provider.sampler = ALWAYS_OFF
    app = make_app(redis_url, spans, child=True)

    @app.handler("q", "Fine")
    async def fine(ctx: Context) -> None:
        ctx.enqueue(Job("elsewhere", "Next"))

    async with running(app) as settled:
        push(shared_server, **RUBYS)
        await settled(1)
    assert spans.all("") == []
    follow_up = json.loads(str(shared_server.command("LINDEX", "queue:elsewhere", 0)))
    assert follow_up["traceparent"].split("-")[1] == TRACE
    assert follow_up["traceparent"].endswith("-00")
    assert follow_up["baggage"] == "customer=7"


def test_asyncio_clients_say_it_too(redis_url: str, shared_server: Server, spans: Spans):
    app = make_app(redis_url, spans)

    async def send() -> None:
        async with app.asyncio_client() as client:
            await client.enqueue(Job("mail", "One"))

    with spans.provider.get_tracer("test").start_as_current_span("a web request") as request:
        asyncio.run(send())
    assert ids(spans.one("send mail"))[0] == ids(request)[0]  # type: ignore[arg-type]
    sent = json.loads(str(shared_server.command("LINDEX", "queue:mail", 0)))
    assert sent["traceparent"].split("-")[1:3] == list(ids(spans.one("send mail")))
