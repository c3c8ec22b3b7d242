from __future__ import annotations

import os
from importlib.util import find_spec

from django_probe.spans import PROVIDER
from trioworkers.observe.tracing import OpenTelemetry

SECRET_KEY = "probe"
USE_TZ = True
INSTALLED_APPS = ["django_probe", "trioworkers.django", *([] if find_spec("django.tasks") else ["django_tasks"])]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["PROBE_DATABASE"],
        "OPTIONS": {"timeout": 30},
        "TEST": {"NAME": os.environ["PROBE_DATABASE"]},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
BACKEND = "trioworkers.django.TasksBackend"
TELEMETRY = OpenTelemetry(child=True, tracer_provider=PROVIDER, logs=False)
TASKS = {
    "default": {"BACKEND": BACKEND, "QUEUES": ["default", "other"]},
    "again": {"BACKEND": BACKEND, "QUEUES": ["again"], "OPTIONS": {"retry": 1}},
    "killed": {
        "BACKEND": BACKEND,
        "QUEUES": ["killed"],
        "OPTIONS": {"isolate": "process", "timeout": 30, "concurrency": 2},
    },
    "traced": {"BACKEND": BACKEND, "QUEUES": ["traced", "not-served"], "OPTIONS": {"telemetry": TELEMETRY}},
    "traced-apart": {
        "BACKEND": BACKEND,
        "QUEUES": ["traced-apart"],
        "OPTIONS": {"telemetry": TELEMETRY, "isolate": "process", "concurrency": 1},
    },
}
