"""What a Redis holds, Ruby's part too, under the names that the dashboards of sidekiq-prometheus-exporter read, and a few of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from trioworkers.broker.people.contents import QueueState
from trioworkers.broker.people.inspection import Totals
from trioworkers.observe.metrics import label
from trioworkers.wire.process_records import Process

MOST_QUEUES = 1000
"""Of so many queues something is told, first of those that a process fetches from: others can make as many as they like."""
MOST_HOSTS = 1000
OWN_LABEL = "(own)"
"""An App's own Redis among its shards: an empty label would be none. No shard can have that name."""


def fleet_metrics(
    totals: Totals,
    queues: Sequence[QueueState],
    processes: Sequence[Process],
    longest_s: Mapping[str, float],
) -> Iterator[Metric]:
    """`longest_s`: by queue, how long what runs longest has run."""
    gauge, counter = GaugeMetricFamily, CounterMetricFamily
    yield counter("sidekiq_processed_jobs", "Jobs that were run, well or not", value=totals.processed)
    yield counter("sidekiq_failed_jobs", "Attempts that failed", value=totals.failed)
    yield gauge("sidekiq_workers", "Slots of all processes", value=sum(each.concurrency for each in processes))
    yield gauge("sidekiq_processes", "Processes with a heartbeat", value=len(processes))
    yield gauge("sidekiq_busy_workers", "Jobs that run", value=sum(process.busy for process in processes))
    yield gauge("sidekiq_enqueued_jobs", "Jobs in all queues", value=totals.enqueued)
    for place, name in (("scheduled", "scheduled"), ("retry", "retry"), ("dead", "dead")):
        yield gauge(f"sidekiq_{name}_jobs", f"Jobs in the {place} set", value=totals.sets[place])
    for place, size in totals.sets.items():
        if place not in ("scheduled", "retry", "dead"):
            yield gauge(f"trioworkers_{place}_jobs", f"Jobs in the place `{place}`", value=size)
    slots, serving = _by_queue(processes)
    shown = sorted(queues, key=lambda queue: (queue.name not in serving, queue.name))[:MOST_QUEUES]
    yield gauge(
        "trioworkers_known_queues", f"Queues, of which at most {MOST_QUEUES} are told of one by one", value=len(queues)
    )
    yield _by_name(
        "sidekiq_queue_latency_seconds", "Age of what is fetched next", ((q.name, q.latency_s or 0.0) for q in shown)
    )
    yield _by_name("sidekiq_queue_enqueued_jobs", "Jobs in a queue", ((queue.name, queue.size) for queue in shown))
    yield _by_name(
        "sidekiq_queue_max_processing_time_seconds",
        "How long what runs longest has run",
        ((queue.name, longest_s.get(queue.name, 0.0)) for queue in shown),
    )
    yield _by_name(
        "sidekiq_queue_workers",
        "Slots of all processes that fetch from it",
        ((q.name, slots.get(q.name, 0)) for q in shown),
    )
    yield _by_name(
        "sidekiq_queue_processes", "Processes that fetch from it", ((q.name, serving.get(q.name, 0)) for q in shown)
    )
    yield _by_name(
        "trioworkers_queue_paused", "Whether it is paused", ((queue.name, float(queue.paused)) for queue in shown)
    )
    yield _hosts(processes)


def of_shards(shards: Mapping[str, Iterable[Metric] | None]) -> Iterator[Metric]:
    """The metrics of several Redises, each sample with its `shard`; and which of them gave an answer. None: one that gave none."""
    families: dict[str, Metric] = {}
    up = GaugeMetricFamily("trioworkers_shard_up", "Whether a shard's Redis answers", labels=("shard",))
    for name, found in shards.items():
        shard = name or OWN_LABEL
        up.add_metric((shard,), found is not None)
        for family in found or ():
            kept = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                kept.add_sample(sample.name, {**sample.labels, "shard": shard}, sample.value)
    yield up
    yield from families.values()


def _by_name(name: str, about: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=("name",))
    # Names that look alike on one line are told once: a scrape with one series twice may be refused as a whole.
    for shown, value in {label(each): value for each, value in values}.items():
        family.add_metric((shown,), value)
    return family


def _by_queue(processes: Sequence[Process]) -> tuple[dict[str, int], dict[str, int]]:
    slots: dict[str, int] = {}
    serving: dict[str, int] = {}
    for process in processes:
        for queue, count in process.queues.items():
            slots[queue] = slots.get(queue, 0) + count
            serving[queue] = serving.get(queue, 0) + 1
    return slots, serving


def _hosts(processes: Sequence[Process]) -> Metric:
    counts: dict[tuple[str, str], int] = {}
    for process in sorted(processes, key=lambda each: each.identity):
        key = label(process.identity.partition(":")[0]), "true" if process.quiet else "false"
        if key in counts or len(counts) < MOST_HOSTS:
            counts[key] = counts.get(key, 0) + 1
    family = GaugeMetricFamily("sidekiq_host_processes", "Processes of a machine", labels=("host", "quiet"))
    for key, count in counts.items():
        family.add_metric(key, count)
    return family
