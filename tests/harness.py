"""What tests with real workers say: push jobs, count their runs, and check at the end that none was lost, doubled or stuck."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from servers import Server, wait_for


class Jobs:
    """What the test enqueued, and what became of it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.runs = folder / "runs"
        self.payloads: dict[str, str] = {}

    def push(self, count: int, job_class: str, *args: object, **fields: object) -> None:
        for _ in range(count):
            jid = f"{len(self.payloads):024x}"
            job = {"retry": True, "queue": "q", "class": job_class, "args": list(args), "jid": jid, **fields}
            self.payloads[jid] = json.dumps(job)
        fresh = list(self.payloads.values())[-count:]
        self.server.command("SADD", "queues", "q")
        self.server.command("LPUSH", "queue:q", *fresh)

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
