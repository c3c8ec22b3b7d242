"""By which class one sees that a payload has a job of ActiveJob in it: `active_job.py`, which is imported for such jobs only."""

from __future__ import annotations

WRAPPER = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
"""What Rails up to 8.1 writes; Sidekiq's own adapter, which writes the next, knows it, too."""

RESQUE_WRAPPER = "ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper"
WRAPPERS = frozenset({WRAPPER, "Sidekiq::ActiveJob::Wrapper", RESQUE_WRAPPER})
