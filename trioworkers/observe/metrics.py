"""`Metrics(app)`: what one worker does, and what its Redis holds, in Prometheus' text format. Over a registry of its own. Extra `metrics`.

Values of labels are bounded: queues are those of the App, classes those that have a handler there (the first thousand that run), hosts the first hundred that are called;
whatever else comes is counted together.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import trio
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from trioworkers.jobs.declarations import Declarations
from trioworkers.outcome import Acknowledge, Bury, Discard, Expire, Outcome, Requeue, Retry, Snooze
from trioworkers.printable import on_one_line
from trioworkers.wire.hosts import HostState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "(other)"
MOST_HOSTS = 100
MOST_CLASSES = 1000
"""An App may have handlers that a program made: of so many, on all queues together, each has figures of its own."""
LABEL_CHARACTERS = 200
SECONDS = (0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
LOOP_PATIENCE_S = 1.0

_OUTCOMES: dict[type[Any], str] = {
    Acknowledge: "succeeded",
    Retry: "retried",
    Bury: "buried",
    Discard: "discarded",
    Expire: "expired",
    Requeue: "requeued",
    Snooze: "snoozed",
}


class Metrics:
    """An App's own worker, in this process. Make it before the worker starts; `text()` may be called from any thread.

    Raises ImportError without the extra.
    """

    def __init__(self, app: Declarations) -> None:
        self.registry = CollectorRegistry()
        self._app = app
        self._classes: Mapping[tuple[str, str], tuple[str, str]] = {}
        """Of queues and classes that have figures of their own, and those that would: under which labels."""
        self._own: set[tuple[str, str]] = set()
        """Those that have."""
        self._queues: frozenset[str] = frozenset()
        self._hosts: set[str] = set()
        self._worker: Any = None
        self._link: Any = None
        self._token: trio.lowlevel.TrioToken | None = None
        labels = ("queue", "class", "outcome")
        self._durations = Histogram(
            "trioworkers_job_duration_seconds",
            "How long attempts took, by queue, class and outcome",
            labels,
            buckets=SECONDS,
            registry=self.registry,
        )
        self._waits = Histogram(
            "trioworkers_queue_wait_seconds",
            "How long jobs had been in their queue when an attempt began",
            ("queue",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._calls = Counter(
            "trioworkers_http_calls",
            "HTTP calls of jobs, by host and outcome: a class of status, or an error's name",
            ("host", "outcome"),
            registry=self.registry,
        )
        self.registry.register(self)
        app.observers.append(self)

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self.registry)

    # ── what the worker tells ──────────────────────────────────────────────────────────────────────────────────────────

    def started(self, worker: Any, link: Any) -> None:
        """See `Observer`. What handlers there are is asked now: some may have been declared after this was made."""
        app = self._app
        self._queues = frozenset(app.queues)
        self._classes = {(queue, name): (queue, label(name)) for queue in app.queues for name in app.classes(queue)}
        self._worker, self._link = worker, link
        self._token = trio.lowlevel.current_trio_token()

    def ended(self, delivery: Any, outcome: Outcome) -> None:
        """See `Observer`."""
        job = delivery.job
        queue, name = self._labels_of(delivery.queue, None if job is None else job.job_class)
        took_s = max(0.0, trio.current_time() - delivery.started_at)
        self._durations.labels(queue, name, _OUTCOMES.get(type(outcome), OTHER)).observe(took_s)
        if job is not None and job.enqueued_at_s is not None:
            self._waits.labels(queue).observe(max(0.0, time.time() - took_s - job.enqueued_at_s))

    def _labels_of(self, queue: str, name: str | None) -> tuple[str, str]:
        found = None if name is None else self._classes.get((queue, name))
        if found is not None and found not in self._own:
            if len(self._own) >= MOST_CLASSES:
                found = None
            else:
                self._own.add(found)
        return found or (queue if queue in self._queues else OTHER, OTHER)

    def called(self, host: str, outcome: str) -> None:
        """See `Observer`."""
        self._calls.labels(self._host(host), outcome).inc()

    # ── what is asked when somebody wants to know ──────────────────────────────────────────────────────────────────────

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        worker, link = self._worker, self._link
        if worker is None:
            return
        stats = worker.stats()
        slots = GaugeMetricFamily("trioworkers_slots", "Slots by queue, and what they do", labels=("queue", "state"))
        for queue, count in stats.running.items():
            slots.add_metric((queue, "busy"), count)
            slots.add_metric((queue, "free"), stats.free[queue])
        yield slots
        yield CounterMetricFamily("trioworkers_settled", "Outcomes that are written", value=stats.settled)
        yield CounterMetricFamily(
            "trioworkers_settle_groups", "Calls in which they were written, together", value=worker.settle_groups
        )
        yield CounterMetricFamily(
            "trioworkers_reclaimed_jobs", "Jobs of dead workers that this one put back", value=worker.reclaimed
        )
        yield CounterMetricFamily("trioworkers_redis_outages", "How often Redis was away", value=link.outages)
        yield GaugeMetricFamily("trioworkers_redis_up", "Whether Redis answers", value=float(link.is_up))
        yield GaugeMetricFamily("trioworkers_quiet", "Whether this worker fetches no more", value=float(stats.quiet))
        yield from self._of_hosts(worker.hosts)
        lag_s = self._loop_lag()
        if lag_s is not None:
            yield GaugeMetricFamily(
                "trioworkers_event_loop_lag_seconds",
                f"How long the event loop took to answer, {LOOP_PATIENCE_S:g} at most",
                value=lag_s,
            )

    def _of_hosts(self, hosts: Sequence[HostState]) -> Iterator[Metric]:
        """As of the last heartbeat."""
        calls = GaugeMetricFamily(
            "trioworkers_http_host_calls", "HTTP calls by host, and whether they wait", labels=("host", "state")
        )
        paused = GaugeMetricFamily(
            "trioworkers_http_host_paused", "Whether a breaker holds back the calls to a host", labels=("host",)
        )
        counts: dict[str, list[int]] = {}
        for each in hosts:
            count = counts.setdefault(self._host(each.host), [0, 0, 0])
            for place, more in enumerate((each.calls, each.waiting, int(each.paused_s > 0))):
                count[place] += more
        for host, (running, waiting, is_paused) in counts.items():
            calls.add_metric((host, "running"), running)
            calls.add_metric((host, "waiting"), waiting)
            paused.add_metric((host,), is_paused)
        yield calls
        yield paused

    def _host(self, host: str) -> str:
        """It, as long as they are not too many."""
        host = label(host)
        if host not in self._hosts:
            if len(self._hosts) >= MOST_HOSTS:
                return OTHER
            self._hosts.add(host)
        return host

    def _loop_lag(self) -> float | None:
        """None in the loop itself, which can't wait for itself, and when it is over."""
        if self._token is None or (trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token):
            return None
        answered, asked_at = threading.Event(), time.monotonic()
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(answered.set)
            answered.wait(LOOP_PATIENCE_S)
            return time.monotonic() - asked_at
        return None


def label(text: str) -> str:
    """Anything as the value of a label: on one line, valid UTF-8, and not long. Of what is cut off a digest stays, so that no two are one."""
    shown = on_one_line(text)
    if len(shown) <= LABEL_CHARACTERS:
        return shown
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{shown[: LABEL_CHARACTERS - 9]}~{digest}"


def render(families: Iterator[Metric]) -> bytes:
    """Metrics as text, of no registry."""
    registry = CollectorRegistry()
    found = list(families)

    class _Given:
        def collect(self) -> Iterator[Metric]:
            return iter(found)

    registry.register(_Given())
    return generate_latest(registry)
