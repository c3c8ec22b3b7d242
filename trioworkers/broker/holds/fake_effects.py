"""What becomes of what jobs hold, in memory: the fake broker's half of `effects.lua`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from trioworkers.broker.holds.fake_limits import FakeLimits
from trioworkers.exits import Effect


@attrs.define
class FakeEffects:
    """`now_s`: epoch seconds. `limits`: which let permits go."""

    now_s: Callable[[], float]
    limits: FakeLimits
    unlock: Callable[[str, str], None] = lambda *_: None
    """(key, jid): see `FakeLocks.unlock`."""
    member_ended: Callable[..., None] = lambda *_: None
    """(batch, jid, how, …): see `FakeBatches.ended`."""
    run_ended: Callable[[str, str, str], None] = lambda *_: None
    """(entry, jid, how): see `FakeTicks.ended`."""
    steps: defaultdict[str, dict[str, bytes]] = attrs.field(factory=lambda: defaultdict(dict))
    """What jobs recorded beside their payloads, by jid."""
    results: dict[str, tuple[bytes, float]] = attrs.field(factory=dict)
    """jid → (how it ended, until when that is kept)"""
    progress: dict[str, tuple[bytes, float]] = attrs.field(factory=dict)
    logs: dict[str, tuple[bytes, float]] = attrs.field(factory=dict)
    finished: defaultdict[str, list[bytes]] = attrs.field(factory=lambda: defaultdict(list))

    def apply(self, effects: Sequence[Effect]) -> None:
        """See `effects.lua`."""
        told: dict[str, Callable[..., None]]
        told = {
            "unlock": self.unlock,
            "run": self.run_ended,
            "member": self.member_ended,
            "result": self._keep_result,
            "progress": self._keep_progress,
            "log": self._keep_log,
            "finished": self._keep_finished,
            "close": self.limits.close,
            "steps": self._keep_steps,
            "permit": self._let_permit_go,
        }
        for kind, *rest in sorted(effects, key=lambda effect: effect[0] != "close"):
            if kind not in ("touch", "moved"):  # nobody deletes anything here
                told[kind](*rest)

    def _keep_result(self, jid: str, text: bytes, keep_s: float) -> None:
        self.results[jid] = (text, self.now_s() + keep_s)

    def _keep_progress(self, jid: str, text: bytes, keep_s: float) -> None:
        self.progress[jid] = (text, self.now_s() + keep_s)

    def _keep_log(self, jid: str, text: bytes, keep_s: float) -> None:
        self.logs[jid] = (text, self.now_s() + keep_s)

    def _keep_finished(self, job_class: str, count: int, text: bytes) -> None:
        entry = b"%.3f %s" % (self.now_s(), text)
        self.finished[job_class] = [entry, *self.finished[job_class]][:count]

    def _keep_steps(self, jid: str, new: Sequence[Any], stays: int) -> None:
        self.steps[jid].update(zip(new[::2], new[1::2], strict=True))
        if stays == 0:
            self.steps.pop(jid)

    def _let_permit_go(self, record: str, member: str, limits: Sequence[str], jid: str) -> None:
        del record
        self.limits.let_go(member, limits, jid)

    def ended(self, jid: str) -> bytes | None:
        """How a job ended, while that is kept."""
        text, until = self.results.get(jid, (None, 0.0))
        return text if until > self.now_s() else None
