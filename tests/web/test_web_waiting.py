"""The pictures of what waited: from what was noted, with gaps where nobody did, for a screen and for a phone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import msgpack
import pytest
from visiting import harmless_text, payload

from trioworkers.web.pages.rates import SPANS
from trioworkers.web.pages.waiting import MOST_KEPT as MOST_QUEUES
from trioworkers.web.pages.waiting import draw
from trioworkers.web.site import MOST_KEPT, Site


def lines(svg: str) -> int:
    ET.fromstring(svg)
    return svg.count('class="edge"')


def test_gaps_are_where_nobody_noted_anything():
    hour = SPANS["hour"]
    assert lines(draw(hour, [None] * 60, 0.0, is_age=False)) == 0
    assert "nobody has noted anything yet" in draw(hour, [None] * 60, 0.0, is_age=False)
    assert lines(draw(hour, [0] * 60, 0.0, is_age=True)) == 1
    assert lines(draw(hour, [5, None, 6, 7, None, None, 8, None, None], 0.0, is_age=False)) == 2
    assert "at most 1,000" in draw(hour, [1000, 20, None], 0.0, is_age=False)


@pytest.mark.parametrize("span", SPANS)
async def test_pictures_of_all_queues_and_of_one(visitor: httpx.AsyncClient, command: Callable[..., Any], span: str):
    now_s = time.time()
    for ago_min in range(0, 3 * 24 * 60, 7):
        at = int(now_s // 60) - ago_min
        key, minute = f"tw:history:{at // 60}", at % 60
        command("HSET", key, minute, f"{1000 + ago_min} 75")
        command("HSET", f"{key}:queues", minute, msgpack.packb([["mail", 12, 34], ["other", 5, 5]]))
    at_most = {"hour": 1000 + 56, "day": 1000 + 1435, "three-days": 1000 + 4312}[span]
    for path, said in (
        (f"/waiting.svg?span={span}&what=size", r"at most ([\d,]+)"),
        (f"/waiting.svg?span={span}&what=age&narrow=1", "at most 1m15s"),
        (f"/waiting.svg?span={span}&what=size&queue=mail", "at most 12<"),
        (f"/waiting.svg?span={span}&what=age&queue=nobody", "nobody has noted anything yet"),
    ):
        found = await visitor.get(path)
        assert found.headers["content-type"] == "image/svg+xml"
        ET.fromstring(found.text)
        match = re.search(said, found.text)
        assert match, (path, found.text)
        if match.groups():
            assert abs(int(match[1].replace(",", "")) - at_most) <= 40  # whole columns; minutes pass
        assert len(found.content) < 20_000


async def test_pages_lead_to_the_pictures_with_any_queue_name(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    name = '"><script>alert(1)</script>&x=1'
    command("SADD", "queues", name)
    command("LPUSH", f"queue:{name}", payload(1))
    for path, count in (("/", 4), ("/queue", 2)):
        page = (await visitor.get(path, params={"name": name, "span": "day"})).text
        harmless_text(page)
        pictures = re.findall(r'(?:src|srcset)="([^"]*\.svg[^"]*)"', page)
        pictures = [each for each in pictures if "icon" not in each]
        assert len(pictures) == count
        for picture in pictures:
            assert "span=day" in picture
            assert (await visitor.get(picture.replace("&amp;", "&"))).status_code == 200


async def test_what_visitors_make_up_is_not_remembered_for_ever(
    visitor: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    sites: list[Site] = []
    fresh = Site.fresh

    async def noted(self: Site, *args: Any, **options: Any) -> Any:
        sites.append(self)
        return await fresh(self, *args, **options)

    monkeypatch.setattr(Site, "fresh", noted)
    for number in range(MOST_KEPT + 20):
        assert (await visitor.get(f"/waiting.svg?queue=made-up-{number}")).status_code == 200
    assert len(sites[0]._kept) <= MOST_KEPT

    async def nothing() -> dict[str, Any]:
        return {}

    assert len(await fresh(sites[0], "hours that are over", nothing, 86400.0)) <= MOST_QUEUES


async def test_odd_values_in_the_address_are_a_picture_all_the_same(visitor: httpx.AsyncClient):
    for path in ("/waiting.svg?span=x&what=y&queue=%00%ff", "/waiting.svg", "/waiting.svg?queue=" + "q" * 5000):
        assert (await visitor.get(path)).status_code == 200
