"""Client for programs that block: threads, forks, gevent. `from trioworkers.sync import Client`; needs `pip install 'trioworkers[sync]'`.

Imports neither Trio nor its Redis client, and redis-py only with the first call: a web process starts as quickly as before.
"""

from __future__ import annotations

from trioworkers.sync.client import Client

__all__ = ["Client"]
