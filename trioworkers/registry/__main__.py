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
        "Everything else is as Sidekiq, Resque or go-workers has it. Our keys begin with `tw:`, behind the worker's namespace if it has one; our fields in",
        "payloads and records with `tw_`. Other programs carry the fields along and need not know the keys. Nothing else of ours is ever written.",
        "",
        "## Keys",
        "",
        "| key | type | what it is | written by | let go by | since |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{key.name}` | {key.type} | {key.what} | {key.written_by} | {key.let_go_by} | {key.since} |"
            for key in sorted(KEYS)
        ),
        "",
        "## Fields",
        "",
        "| field | in | what it is | written by | let go by | since |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{field.name}` | {field.where} | {field.what} | {field.written_by} | {field.let_go_by} | {field.since} |"
            for field in sorted(FIELDS)
        ),
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - that is what it is run for
