"""What docs/unique.md takes for granted: nothing but a Redis."""

REAL = "without a worker"


def check(names, server):
    assert server.command("LLEN", "queue:sync") == 1
    assert names["sent"].duplicate_of is None
