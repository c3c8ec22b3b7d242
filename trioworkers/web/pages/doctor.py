"""What `trioworkers doctor` finds in this Redis, finding by finding."""

from __future__ import annotations

from contextlib import aclosing

from trioworkers.broker.people.diagnosis import diagnose
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.visit import Visit


async def _parts(visit: Visit) -> Parts:
    yield "doctor.html", {}
    async with visit.site.scans, aclosing(diagnose(visit.session.connection, visit.session.keys)) as findings:
        async for finding in findings:
            yield "finding.html", {"finding": finding}


DOCTOR = Page("/doctor", "Doctor", _parts, slow=True)
