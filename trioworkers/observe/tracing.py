"""`App(telemetry=OpenTelemetry())`: a span for each attempt, each sending and each HTTP call of a job. Extra `otel`; the SDK is the program's own.

The context travels in the payload where Ruby's instrumentation has it (`traceparent`, `tracestate`, `baggage`, beside `class` and `args`), so traces join
both ways. The conventions for messaging are still moving: their names are in this file only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import trio
from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from trioworkers import __version__
from trioworkers.errors import Steer
from trioworkers.failures import summary
from trioworkers.jobs.context import Context, OpenProgress
from trioworkers.jobs.progress import Progress
from trioworkers.send import Send
from trioworkers.wire.job import Job

FIELDS = ("traceparent", "tracestate", "baggage")
MOST_CHARACTERS = 8192
"""Of what others wrote there."""
LONG_AGO_S = 3600.0
"""What was sent so long ago is linked, not continued: a trace that lasts for days is none."""


class OpenTelemetry:
    """Spans by opentelemetry's API. `child`: attempts continue the trace of their sender. Without it, they begin a new trace with a link to the sender's, as in Ruby.

    `tracer_provider`: default: the program's. `logs=False`: log records get no trace and span ids. Raises ImportError without the extra.
    """

    def __init__(
        self, *, child: bool = False, tracer_provider: TracerProvider | None = None, logs: bool = True
    ) -> None:
        self._child = child
        self._tracer = trace.get_tracer("trioworkers", __version__, tracer_provider)
        if logs:
            _tell_logs()

    # ── running ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def attempt(self, ctx: Context, call_next: Callable[[], Awaitable[Any]], /) -> Any:
        """One attempt of a job. What steers it is no error, and being stopped isn't, either."""
        job = ctx.job
        parent, links = self._sender_of(job)
        span = self._tracer.start_span(
            f"process {job.queue}", parent, SpanKind.CONSUMER, _attributes(job, "process", "process"), links
        )
        if job.retry_count is not None:
            span.add_event("retry", {"attempt": job.attempt})
        if job.progress or job.recorded is not None:
            span.add_event("resumed", {"calls_done": len(job.progress)})
        ctx._open_progress = partial(_telling, span, ctx._open_progress)  # noqa: SLF001 - our own; only what is traced pays for it
        # With what the sender's context says besides: its baggage goes on to whatever the job sends and calls.
        token = contexts.attach(trace.set_span_in_context(span, parent))
        try:
            value = await self._told(span, ctx, call_next)
            if ctx._sends:  # noqa: SLF001 - what goes out with its success; the runner's side of it
                ctx._sends = [self._traced(send) for send in ctx._sends]  # noqa: SLF001 - as above
        finally:
            contexts.detach(token)
            span.end()
        return value

    async def _told(self, span: Span, ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call_next()
        except trio.Cancelled:
            if ctx.deadline <= trio.current_time():
                _fail(span, "TooSlowError", "the attempt took longer than it may")
            else:
                attempt = ctx._opened().attempt  # noqa: SLF001 - as above
                is_lost = attempt is not None and attempt.was_taken_over
                span.add_event("taken over" if is_lost else "stopped")
            raise
        except Steer as steer:
            span.add_event(type(steer).__name__, {"reason": str(steer)[:500]})
            raise
        except BaseException as error:
            _fail(span, *summary(error))
            raise

    def _sender_of(self, job: Job) -> tuple[contexts.Context, list[Link]]:
        carried = {name: text for name in FIELDS if isinstance(text := job.extra.get(name), str)}
        sender = propagate.extract(
            {name: text for name, text in carried.items() if len(text) <= MOST_CHARACTERS}, contexts.Context()
        )
        span_context = trace.get_current_span(sender).get_span_context()
        if not span_context.is_valid:
            return sender, []
        old = job.created_at_s is not None and time.time() - job.created_at_s > LONG_AGO_S
        if self._child and not old:
            return sender, []
        # A trace of its own; but baggage goes on, as with Ruby's.
        return trace.set_span_in_context(trace.INVALID_SPAN, sender), [Link(span_context)]

    # ── sending ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def sending(self, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
        """Around one call of a client: one span, whose context all of its jobs carry."""
        if not jobs:
            yield jobs
            return
        span = self._tracer.start_span(
            f"send {jobs[0].queue}", None, SpanKind.PRODUCER, _attributes(jobs[0], "send", "send")
        )
        if len(jobs) > 1:
            span.set_attribute("messaging.batch.message_count", len(jobs))
        carried = _carried(trace.set_span_in_context(span))
        try:
            yield [_carrying(job, carried) for job in jobs]
        except BaseException as error:
            if not isinstance(error, trio.Cancelled):
                _fail(span, *summary(error))
            raise
        finally:
            span.end()

    def _traced(self, send: Send) -> Send:
        job = send.job
        span = self._tracer.start_span(f"send {job.queue}", None, SpanKind.PRODUCER, _attributes(job, "send", "send"))
        span.end()
        return attrs.evolve(send, job=_carrying(job, _carried(trace.set_span_in_context(span))))

    def carried(self) -> Mapping[str, str]:
        """See `Telemetry`."""
        return _carried(contexts.get_current())

    @contextmanager
    def within(self, carried: Mapping[str, str], /) -> Iterator[None]:
        """See `Telemetry`."""
        token = contexts.attach(propagate.extract(carried, contexts.Context()))
        try:
            yield
        finally:
            contexts.detach(token)

    # ── calls ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def call(self, request: Any, send: Callable[[Any], Awaitable[Any]]) -> Any:
        """One HTTP call, waiting for its turn included. The service is told the context, unless the handler tells it one."""
        span = self._tracer.start_span(
            request.method,
            None,
            SpanKind.CLIENT,
            {
                "http.request.method": request.method,
                "server.address": request.url.host,
                "server.port": request.url.port or (443 if request.url.scheme == "https" else 80),
                "url.full": str(request.url.copy_with(username=None, password=None, query=None)),
            },
        )
        for name, text in _carried(trace.set_span_in_context(span)).items():
            if name not in request.headers:
                request.headers[name] = text
        try:
            response = await send(request)
        except Exception as error:
            _fail(span, *summary(error))
            raise
        else:
            span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= 400:
                span.set_attribute("error.type", str(response.status_code))
                span.set_status(Status(StatusCode.ERROR))
            return response
        finally:
            span.end()


def _telling(span: Span, open_progress: OpenProgress, delivery: Any, job: Job) -> Progress:
    """The progress of a job, of which each checkpoint is an event: when it is handed in, as the attempt may not wait for it."""
    progress = open_progress(delivery, job)
    save = progress.save

    def save_and_tell() -> trio.Event:
        span.add_event("checkpoint", {"calls_done": len(progress.done) + len(progress.done_packed)})
        return save()

    progress.save = save_and_tell
    return progress


def _attributes(job: Job, operation: str, kind: str) -> dict[str, Any]:
    return {
        "messaging.system": "sidekiq",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": job.queue,
        "messaging.message.id": job.jid,
        "messaging.sidekiq.job_class": job.job_class,
    }


def _carried(context: contexts.Context) -> dict[str, str]:
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    return carrier


def _carrying(job: Job, carried: Mapping[str, str]) -> Job:
    return attrs.evolve(job, extra={**job.extra, **carried}) if carried else job


def _fail(span: Span, name: str, message: str) -> None:
    span.set_attribute("error.type", name)
    span.add_event("exception", {"exception.type": name, "exception.message": message[:1000]})
    span.set_status(Status(StatusCode.ERROR, f"{name}: {message[:500]}"))


def _tell_logs() -> None:
    """Have records made within a span carry its ids, for whoever formats them. Once a program."""
    make = logging.getLogRecordFactory()
    if getattr(make, "has_trace", False):
        return

    def make_with_trace(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        found = trace.get_current_span().get_span_context()
        if found.is_valid:
            record.trace_id = trace.format_trace_id(found.trace_id)
            record.span_id = trace.format_span_id(found.span_id)
        return record

    make_with_trace.has_trace = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_with_trace)
