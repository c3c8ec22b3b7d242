"""What is ours in Redis, each once: our keys (`tw:…`, in `keys`), our fields in payloads and records (`tw_…`, in `fields`). Pure.

Whoever adds one adds a line there; a test reads the package and its Lua and fails for a name that isn't listed. `doctor` tries each kind of
key, `docs/in-redis.md` is written from these files (`python -m trioworkers.registry`, `make docs`), tests know from them what may be left when all jobs are done.
"""

from __future__ import annotations

from trioworkers.registry.fields import FIELDS, Field
from trioworkers.registry.keys import KEYS, Key, may_stay

__all__ = ["FIELDS", "KEYS", "Field", "Key", "may_stay"]
