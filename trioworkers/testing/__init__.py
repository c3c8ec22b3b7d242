"""An app without Redis, on Trio's virtual clock, and what tests of handlers and of their senders need. `docs/testing.md` shows it.

```python
async def test_welcome(autojump_clock):
    async with trioworkers.testing.run(app) as test:
        await test.enqueue(welcome.job(7))
        await test.drain()
        test.assert_enqueued("MailJob", args=[7])
```
"""

from __future__ import annotations

from trioworkers.testing.broker import Ran
from trioworkers.testing.interruptions import for_each_interruption
from trioworkers.testing.recording import Recorded, recording
from trioworkers.testing.running import run
from trioworkers.testing.running_app import RunningApp
from trioworkers.testing.sent_jobs import SentJob, SentJobs

__all__ = ["Ran", "Recorded", "RunningApp", "SentJob", "SentJobs", "for_each_interruption", "recording", "run"]
