"""By what one sees that a payload has a job of ActiveJob in it (`active_job.py`, which is imported for such jobs only), or what only Ruby can read."""

from __future__ import annotations

from collections.abc import Mapping

WRAPPER = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
"""What Rails up to 8.1 writes; Sidekiq's own adapter, which writes the next, knows it, too."""

RESQUE_WRAPPER = "ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper"
WRAPPERS = frozenset({WRAPPER, "Sidekiq::ActiveJob::Wrapper", RESQUE_WRAPPER})


def is_encrypted(fields: Mapping[str, object]) -> bool:
    """Whether only Ruby can read the last argument, by a field of Sidekiq Enterprise's. Of a job of ActiveJob that is the hash with all that it tells."""
    value = fields.get("encrypt")
    return value is not None and value is not False
