"""How the command line logs: lines for people, or JSON objects for machines. Only it configures logging."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

_FIELDS = ("jid", "job_class", "queue", "attempt")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, with the job's fields where there are some."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({name: getattr(record, name) for name in _FIELDS if hasattr(record, name)})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode()


def configure_logging(log_format: str, level: str) -> None:
    """Log everything from `level` on to stderr."""
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s pid=%(process)d %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request is no help at thousands a second
    # It logs each failed try with its traceback; of an outage, our two lines are enough.
    logging.getLogger("coredis").setLevel(logging.CRITICAL)
