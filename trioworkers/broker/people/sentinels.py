"""What doctor says of the Sentinels that a URL names."""

from __future__ import annotations

from trioworkers.broker.checks import Finding
from trioworkers.broker.redis.finding import ask_all
from trioworkers.redis_url import parse_redis_url
from trioworkers.wire.sentinel import candidates
from trioworkers.wording import counted

ENOUGH = 3
"""Two can't outvote one."""


async def check_sentinels(url: str) -> list[Finding]:
    """One finding, or one for each of them that is of no use; none where the URL names none."""
    sentinels = parse_redis_url(url).sentinels
    if sentinels is None:
        return []
    named, silent = await ask_all(sentinels, to_the_last=True)
    findings = [Finding("sentinels", "warning", each, "start it, or take it out of the URL") for each in silent]
    places = candidates(named)
    if len(places) > 1:
        said = "; ".join(f"{node} says {place}" for node, place in named.items())
        findings.append(
            Finding("sentinels", "problem", f"they disagree: {said}", "do all of them belong to one deployment?")
        )
    if len(sentinels.nodes) < ENOUGH:
        text = f"the URL names {counted(len(sentinels.nodes), 'Sentinel')}"
        findings.append(Finding("sentinels", "note", text, "name three or more: one of them may be down"))
    return findings or [Finding("sentinels", "ok", f"all {len(named)} say {places[0]}")]
