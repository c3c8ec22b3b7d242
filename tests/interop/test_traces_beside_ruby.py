"""A trace from a real Ruby Sidekiq through a job here and back into Ruby: the context is where OpenTelemetry's instrumentation puts it and looks for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id
from servers import Server, wait_for
from test_ruby import has_sidekiq, required

from trioworkers import App, Context, Job
from trioworkers.observe.tracing import OpenTelemetry

RUBY = str(Path(__file__).parent / "traced.rb")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not required and not has_sidekiq(), reason="Ruby's Sidekiq is not installed"),
]


def test_a_trace_goes_from_ruby_through_a_job_here_back_into_ruby(server: Server):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = App(server.url, telemetry=OpenTelemetry(child=True, tracer_provider=provider, logs=False))
    app.queue("python")

    @app.handler("python", "Fine")
    async def fine(ctx: Context) -> None:
        ctx.enqueue(Job("ruby", "Next", jid="b" * 24))

    environment = {
        **os.environ,
        "REDIS_URL": server.url,
        "TRACEPARENT": f"00-{TRACE}-{PARENT}-01",
        "TRACESTATE": "vendor=x",
        "BAGGAGE": "customer=7",
    }
    push = "Sidekiq::Client.push('class' => 'Fine', 'queue' => 'python', 'args' => [], 'jid' => 'a' * 24)"
    subprocess.run(["ruby", "-r", RUBY, "-e", push], env=environment, check=True, capture_output=True)

    async def run_one() -> None:
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.serve)
            with trio.fail_after(60):
                while worker.stats().settled < 1:
                    await trio.sleep(0.05)
            worker.stop()

    trio.run(run_one)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    attempt, sent = spans["process python"], spans["send ruby"]
    assert attempt.parent is not None
    assert (format_trace_id(attempt.parent.trace_id), format_span_id(attempt.parent.span_id)) == (TRACE, PARENT)
    command = ["sidekiq", "-r", RUBY, "-q", "ruby", "-c", "1", "-t", "1"]
    environment = {**os.environ, "REDIS_URL": server.url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: server.command("HEXISTS", "found", "b" * 24), "Ruby runs it", 60)
        finally:
            process.terminate()
    assert sent.context is not None
    found, baggage = str(server.command("HGET", "found", "b" * 24)).split()
    assert found == f"00-{TRACE}-{format_span_id(sent.context.span_id)}-01"
    assert baggage == "customer=7"
