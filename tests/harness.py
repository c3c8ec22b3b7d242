"""What tests with real workers say: push jobs, count their runs, and check at the end that none was lost, doubled or stuck."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from servers import Server, wait_for


class Jobs:
    """What the test enqueued, and what became of it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.runs = folder / "runs"
        self.payloads: dict[str, str] = {}

    def push(self, count: int, job_class: str, *args: object, **fields: object) -> None:
        """Enqueue jobs of `job_class`."""
        self.server.command("SADD", "queues", "q")
        self.server.command("LPUSH", "queue:q", *self._fresh(count, job_class, args, fields))

    def push_when_possible(self, count: int, job_class: str, *args: object) -> None:
        """Enqueue jobs as soon as the server takes them."""
        fresh = self._fresh(count, job_class, args, {})

        def pushed() -> bool:
            try:
                self.server.command("LPUSH", "queue:q", *fresh)
            except (OSError, AssertionError):
                return False
            return True

        wait_for(pushed, "the server takes jobs")

    def push_elsewhere(self, count: int, key: str, job_class: str, *args: object, score: float = 1.0) -> None:
        """Put jobs into the sorted set (with this score) or the list at `key`."""
        fresh = self._fresh(count, job_class, args, {})
        if key in ("retry", "schedule"):
            self.server.command("ZADD", key, *(word for payload in fresh for word in (score, payload)))
        else:
            self.server.command("LPUSH", key, *fresh)

    def _fresh(self, count: int, job_class: str, args: Iterable[object], fields: dict[str, object]) -> list[str]:
        fresh = []
        for _ in range(count):
            jid = f"{len(self.payloads):024x}"
            job = {"retry": True, "queue": "q", "class": job_class, "args": list(args), "jid": jid, **fields}
            fresh.append(json.dumps(job))
            self.payloads[jid] = fresh[-1]
        return fresh

    def counted(self, event: str) -> Counter[str]:
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        return Counter(line.split()[1] for line in lines if line.startswith(event))

    def pids(self) -> set[int]:
        return {int(line.split()[2]) for line in self.runs.read_text().splitlines()}

    def queued(self) -> list[str]:
        found = self.server.command("LRANGE", "queue:q", 0, -1)
        assert isinstance(found, list)
        return found

    def jids(self, sorted_set: str) -> set[str]:
        """What lies in `retry`, `schedule` or `dead`."""
        found = self.server.command("ZRANGE", sorted_set, 0, -1)
        assert isinstance(found, list)
        return {json.loads(payload)["jid"] for payload in found}

    def in_progress(self) -> int:
        keys = self.server.command("KEYS", "*:inprogress")
        assert isinstance(keys, list)
        return sum(int(str(self.server.command("LLEN", key))) for key in keys if key != "tw:inprogress")

    def expect_all_done(self, *, extra_runs: int, timeout_s: float = 30.0) -> None:
        """Nothing lost, nothing stuck, and no more than `extra_runs` runs too many."""
        wait_for(lambda: set(self.counted("end")) >= set(self.payloads), "all jobs are done", timeout_s)
        wait_for(lambda: self.in_progress() == 0 and not self.queued(), "nothing is stuck", timeout_s)
        assert self.server.command("ZCARD", "retry") == self.server.command("ZCARD", "dead") == 0
        assert sum(self.counted("start").values()) - len(self.payloads) <= extra_runs


def children_of(parent: int) -> list[tuple[int, str]]:
    """(pid, command line) of a process's children, and of those that say that they are."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if fields[1] == str(parent) or f"parent_pid={parent}" in command:
            found.append((int(stat.parent.name), command))
    return found
