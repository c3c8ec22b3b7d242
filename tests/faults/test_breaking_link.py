"""A link that breaks after so many bytes, again and again: what is asked for at once becomes small enough to come through."""

from __future__ import annotations

from collections.abc import Callable

from harness import Jobs
from proxy import Proxy
from servers import Server, Worker, wait_for

EVERY_BYTES = 900_000


class Breaking(Proxy):
    """All connections break when so many bytes have passed since the last break, in both directions together."""

    def __init__(self, target_port: int) -> None:
        self.passed = self.breaks = 0
        super().__init__(target_port)

    def _wait_for_the_line(self, size: int, is_reply: bool) -> None:
        self.passed += size
        if self.passed > EVERY_BYTES:
            self.passed = 0
            self.breaks += 1
            self.reset_all()
            raise OSError("broken")


def test_more_than_the_link_carries_before_it_breaks_comes_through_in_parts(
    work: Callable[..., Worker], jobs: Jobs, server: Server
):
    """At once it would be twice as much: a fetch, what the audit reads of what a lost fetch has left, what outcomes bring, what a heartbeat shows."""
    proxy = Breaking(server.port)
    try:
        work("w1", "--redis", proxy.url, "--lease", "4", CONCURRENCY="20").wait_started()
        jobs.push(30, "Sleep", 0.01, pad="x" * 100_000)
        wait_for(lambda: len(jobs.counted("end")) == 30, "all have run", timeout_s=240)
        assert proxy.breaks > 2
        jobs.expect_all_done(extra_runs=0, timeout_s=120)
        assert server.command("GET", "stat:processed") == "30"
    finally:
        proxy.close()
