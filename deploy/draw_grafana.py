"""Writes `deploy/grafana.json`: rows of panels, each a query over what `/metrics` exposes. Run it after a change: `python deploy/draw_grafana.py > deploy/grafana.json`."""

from __future__ import annotations

import json
import sys

PANELS = (
    (
        "Jobs a second",
        "ops",
        {"processed": "rate(sidekiq_processed_jobs_total[5m])", "failed": "rate(sidekiq_failed_jobs_total[5m])"},
    ),
    ("Waiting", "short", {"{{name}}": "sidekiq_queue_enqueued_jobs"}),
    ("How long the next job has waited", "s", {"{{name}}": "sidekiq_queue_latency_seconds"}),
    ("Busy", "short", {"busy": "sidekiq_busy_workers", "slots": "sidekiq_workers"}),
    (
        "Retries, scheduled, dead, parked",
        "short",
        {
            "retry": "sidekiq_retry_jobs",
            "scheduled": "sidekiq_scheduled_jobs",
            "dead": "sidekiq_dead_jobs",
            "parked": "trioworkers_parked_jobs",
        },
    ),
    ("Processes by machine", "short", {"{{host}} quiet={{quiet}}": "sidekiq_host_processes"}),
    (
        "Duration, 95 %",
        "s",
        {
            "{{class}}": "histogram_quantile(0.95, sum by (le, class) (rate(trioworkers_job_duration_seconds_bucket[5m])))"
        },
    ),
    (
        "Wait before the attempt, 95 %",
        "s",
        {"{{queue}}": "histogram_quantile(0.95, sum by (le, queue) (rate(trioworkers_queue_wait_seconds_bucket[5m])))"},
    ),
    (
        "Outcomes a second",
        "ops",
        {"{{outcome}}": "sum by (outcome) (rate(trioworkers_job_duration_seconds_count[5m]))"},
    ),
    ("Slots by queue", "short", {"{{queue}} {{state}}": "sum by (queue, state) (trioworkers_slots)"}),
    (
        "HTTP calls a second",
        "ops",
        {"{{host}} {{outcome}}": "sum by (host, outcome) (rate(trioworkers_http_calls_total[5m]))"},
    ),
    ("Calls that wait for their turn", "short", {"{{host}}": 'trioworkers_http_host_calls{state="waiting"}'}),
    ("Hosts that are paused", "short", {"{{host}}": "sum by (host) (trioworkers_http_host_paused)"}),
    (
        "Outcomes written together",
        "short",
        {"{{instance}}": "rate(trioworkers_settled_total[5m]) / rate(trioworkers_settle_groups_total[5m])"},
    ),
    ("Event loop: time to answer", "s", {"{{instance}}": "trioworkers_event_loop_lag_seconds"}),
    (
        "Redis away; jobs of dead workers taken over",
        "short",
        {
            "outages {{instance}}": "increase(trioworkers_redis_outages_total[1h])",
            "reclaimed {{instance}}": "increase(trioworkers_reclaimed_jobs_total[1h])",
        },
    ),
    ("Paused queues", "short", {"{{name}}": "trioworkers_queue_paused == 1"}),
    ("Longest running job", "s", {"{{name}}": "sidekiq_queue_max_processing_time_seconds"}),
)
SOURCE = {"type": "prometheus", "uid": "${source}"}


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
    variable = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "title": "trioworkers",
        "uid": "trioworkers",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": [panel(number, *each) for number, each in enumerate(PANELS)],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
