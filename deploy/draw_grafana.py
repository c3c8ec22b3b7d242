"""Writes `deploy/grafana.json`: rows of panels, each a query over what `/metrics` exposes. Run it after a change: `python deploy/draw_grafana.py > deploy/grafana.json`."""

from __future__ import annotations

import json
import sys

OF_REDIS = '{job=~"$job",shard=~"$shard"}'
"""What a Redis holds. Without shards the label is missing, which `.*` matches, too."""
OF_WORKERS = '{job=~"$job"}'


def held(name: str, *labels: str) -> str:
    """A figure of the Redises that are chosen, added up; several dashboards of one Redis say the same, and count once."""
    by = ", ".join(("job", "shard", *labels))
    return _summed(f"max by ({by}) ({name}{OF_REDIS})", *labels)


def members(name: str, *labels: str) -> str:
    """A figure of processes. A worker over several Redises is at each of them with all its slots, and counts once."""
    return _summed(f"max by ({', '.join(('job', *labels))}) ({name}{OF_REDIS})", *labels)


def held_rate(name: str) -> str:
    """How fast a counter of theirs grows."""
    return f"sum(max by (job, shard) (rate({name}{OF_REDIS}[$__rate_interval])))"


def longest(name: str) -> str:
    """Of each queue, the worst at any of them."""
    return f"max by (name) ({name}{OF_REDIS})"


def rate(name: str, *labels: str) -> str:
    """How fast a counter of all workers grows."""
    return _summed(f"rate(trioworkers_{name}{OF_WORKERS}[$__rate_interval])", *labels)


def own(name: str, *labels: str) -> str:
    """A gauge of all workers."""
    return _summed(f"trioworkers_{name}{OF_WORKERS}", *labels)


def slowest(name: str, label: str) -> str:
    """Under what 95 % stay."""
    return f"histogram_quantile(0.95, {rate(f'{name}_bucket', 'le', label)})"


def _summed(what: str, *labels: str) -> str:
    return f"sum by ({', '.join(labels)}) ({what})" if labels else f"sum({what})"


PANELS = (
    (
        "Jobs a second",
        "ops",
        {"processed": held_rate("sidekiq_processed_jobs_total"), "failed": held_rate("sidekiq_failed_jobs_total")},
    ),
    ("Waiting", "short", {"{{name}}": held("sidekiq_queue_enqueued_jobs", "name")}),
    ("How long the next job has waited", "s", {"{{name}}": longest("sidekiq_queue_latency_seconds")}),
    ("Busy", "short", {"busy": held("sidekiq_busy_workers"), "slots": members("sidekiq_workers")}),
    (
        "Retries, scheduled, dead, parked",
        "short",
        {
            "retry": held("sidekiq_retry_jobs"),
            "scheduled": held("sidekiq_scheduled_jobs"),
            "dead": held("sidekiq_dead_jobs"),
            "parked": held("trioworkers_parked_jobs"),
        },
    ),
    ("Processes by machine", "short", {"{{host}} quiet={{quiet}}": members("sidekiq_host_processes", "host", "quiet")}),
    ("Duration, 95 %", "s", {"{{class}}": slowest("job_duration_seconds", "class")}),
    ("Wait before the attempt, 95 %", "s", {"{{queue}}": slowest("queue_wait_seconds", "queue")}),
    ("Outcomes a second", "ops", {"{{outcome}}": rate("job_duration_seconds_count", "outcome")}),
    ("Slots by queue", "short", {"{{queue}} {{state}}": own("slots", "queue", "state")}),
    ("HTTP calls a second", "ops", {"{{host}} {{outcome}}": rate("http_calls_total", "host", "outcome")}),
    (
        "Calls that wait for their turn",
        "short",
        {"{{host}}": 'sum by (host) (trioworkers_http_host_calls{job=~"$job",state="waiting"})'},
    ),
    ("Hosts that are paused", "short", {"{{host}}": own("http_host_paused", "host")}),
    (
        "Outcomes written together",
        "short",
        {"{{instance}}": f"{rate('settled_total', 'instance')} / {rate('settle_groups_total', 'instance')}"},
    ),
    ("Event loop: time to answer", "s", {"{{instance}}": f"trioworkers_event_loop_lag_seconds{OF_WORKERS}"}),
    (
        "Redis away; jobs of dead workers taken over",
        "short",
        {
            "outages {{instance}}": f"increase(trioworkers_redis_outages_total{OF_WORKERS}[1h])",
            "reclaimed {{instance}}": f"increase(trioworkers_reclaimed_jobs_total{OF_WORKERS}[1h])",
        },
    ),
    ("Paused queues", "short", {"{{name}}": f"{longest('trioworkers_queue_paused')} == 1"}),
    ("Longest running job", "s", {"{{name}}": longest("sidekiq_queue_max_processing_time_seconds")}),
    (
        "Does Redis answer: shards to who shows them, its Redises to a worker",
        "short",
        {
            "{{shard}}": f"min by (shard) (trioworkers_shard_up{OF_REDIS})",
            "{{instance}}": f"trioworkers_redis_up{OF_WORKERS}",
        },
    ),
    ("Quiet workers", "short", {"{{instance}}": f"trioworkers_quiet{OF_WORKERS}"}),
)
SOURCE = {"type": "prometheus", "uid": "${source}"}


CHOICES = (
    ("job", "Job", "label_values(sidekiq_processes, job)"),
    ("shard", "Shard", 'label_values(sidekiq_processes{job=~"$job"}, shard)'),
)
"""What can be chosen above the panels, all of it if nothing is. The names of shards there are none of are an empty list, and all is all there is."""


def choice(name: str, title: str, query: str) -> dict[str, object]:
    return {
        "name": name,
        "label": title,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def panel(number: int, title: str, unit: str, queries: dict[str, str]) -> dict[str, object]:
    targets = [
        {"refId": chr(65 + place), "expr": expr, "legendFormat": legend, "datasource": SOURCE}
        for place, (legend, expr) in enumerate(queries.items())
    ]
    return {
        "id": number + 1,
        "title": title,
        "type": "timeseries",
        "datasource": SOURCE,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def dashboard() -> dict[str, object]:
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "title": "trioworkers",
        "uid": "trioworkers",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source, *(choice(*each) for each in CHOICES)]},
        "panels": [panel(number, *each) for number, each in enumerate(PANELS)],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
