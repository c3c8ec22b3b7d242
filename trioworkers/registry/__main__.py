"""Writes `docs/in-redis.md`."""

from __future__ import annotations

from trioworkers.registry import FIELDS, KEYS


def page() -> str:
    """`docs/in-redis.md`."""
    lines = [
        "# What is ours in Redis",
        "",
        "<!-- Written by `make docs` from trioworkers/registry/. -->",
        "",
        "All other keys and fields are those of Sidekiq, Resque or go-workers. Our keys begin with `tw:`. If the worker has a namespace, it stands before that.",
        "Our fields in payloads and records begin with `tw_`. Other programs carry these fields along, and need not know our keys. We write nothing else of our own.",
        "",
        "## Keys",
        "",
        "| key | type | what it is | written by | removed by | since |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{key.name}` | {key.type} | {key.what} | {key.written_by} | {key.let_go_by} | {key.since} |"
            for key in sorted(KEYS)
        ),
        "",
        "## Fields",
        "",
        "| field | in | what it is | written by | removed by | since |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{field.name}` | {field.where} | {field.what} | {field.written_by} | {field.let_go_by} | {field.since} |"
            for field in sorted(FIELDS)
        ),
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - that is what it is run for
