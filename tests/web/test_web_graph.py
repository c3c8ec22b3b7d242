"""A batch's graph as a picture: each below what it waits for, bounded, told as a list too; and the page of a real one."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from visiting import harmless_text

from trioworkers import Batch, Client, Job
from trioworkers.web.pages.graph import MOST_NODES, Node, draw

here = partial(Job, runs_here=True)

JIDS = [f"j{number}" for number in range(12)]


@given(st.dictionaries(st.sampled_from(JIDS), st.lists(st.sampled_from([*JIDS, "gone"]), max_size=4), max_size=12))
def test_each_stands_below_what_it_waits_for_and_circles_end(waits: dict[str, list[str]]):
    nodes = {jid: Node(jid, jid, "waiting", before) for jid, before in waits.items()}
    drawing = draw(nodes)
    places = {node.jid: (x, y) for node, x, y in drawing.boxes}
    assert places.keys() == nodes.keys()
    assert len(set(places.values())) == len(places)
    assert all(0 <= x < drawing.width and 0 <= y < drawing.height for x, y in places.values())

    def circles(jid: str, seen: frozenset[str]) -> bool:
        return jid in seen or any(circles(each, seen | {jid}) for each in waits.get(jid, ()))

    for jid, before in waits.items():
        if not circles(jid, frozenset()):
            assert all(places[each][1] < places[jid][1] for each in before if each in places)


def test_a_thousand_are_bounded_and_nothing_is_nothing():
    chain = {f"j{n}": Node(f"j{n}", "x", "waiting", [f"j{n - 1}"]) for n in range(1000)}
    wide = {f"j{n}": Node(f"j{n}", "x", "waiting", ["root"]) for n in range(1000)}
    for nodes in (chain, wide):
        drawing = draw(nodes)
        assert len(drawing.boxes) == MOST_NODES
        assert drawing.more == 1000 - MOST_NODES
        assert drawing.width < 1500
    assert draw({}).boxes == []


def edges_in(page: str) -> int:
    found = re.search(r'class="edge" d="([^"]*)"', page)
    assert found
    return found[1].count("M")


async def test_the_page_of_a_batch_draws_it(visitor: httpx.AsyncClient, redis_url: str, command: Callable[..., Any]):
    batch = Batch("order <7>")
    paid, packed = batch.add(here("q", "Charge")), batch.add(here("q", "Pack"))
    shipped = batch.add(here("q", "Ship"), after=[paid, packed])
    batch.add(here("q", '"><script>alert(1)</script>'), after=[shipped])
    async with Client(redis_url) as client:
        await client.enqueue(batch)
    text = (await visitor.get("/batch", params={"id": batch.id})).text
    harmless_text(text)
    assert "What waits for what" in text
    assert edges_in(text) == 3
    listed = re.sub(r"<[^>]+>", "", text[text.index("As a list") :])
    assert re.search("Ship, waiting; waits for (Charge, Pack|Pack, Charge)", listed)
    assert "Charge, in q" in listed
    command("HSET", f"tw:batch:{batch.id}:graph", "w:odd", b"\xc1", "w:odder", b"\x01", "w:oddest", b"\x91\x01")
    again = await visitor.get("/batch", params={"id": batch.id})
    assert edges_in(again.text) == 3


async def test_a_batch_without_a_graph_has_none(visitor: httpx.AsyncClient, redis_url: str):
    batch = Batch("plain")
    batch.add(*(here("q", "Job") for _ in range(30)))
    async with Client(redis_url) as client:
        await client.enqueue(batch)
    text = (await visitor.get("/batch", params={"id": batch.id})).text
    assert "What waits for what" not in text
    assert "Those 25 that were found first" in text


async def test_a_large_graph_stays_within_a_page(visitor: httpx.AsyncClient, redis_url: str):
    batch = Batch("large")
    before = batch.add(*(here("q", "Job" * 30) for _ in range(10)))
    for _ in range(40):
        before = batch.add(*(here("q", "Job" * 30) for _ in range(10)), after=[before])
    async with Client(redis_url) as client:
        await client.enqueue(batch)
    found = await visitor.get("/batch", params={"id": batch.id})
    assert len(found.content) < 50_000, len(found.content)
    assert "Drawn are the 60 that are next" in found.text


async def test_a_graph_of_which_only_a_part_was_looked_at_says_so(
    visitor: httpx.AsyncClient, redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    batch = Batch("large")
    first = batch.add(here("q", "First"))
    batch.add(*(here("q", "Then") for _ in range(900)), after=[first])
    async with Client(redis_url) as client:
        await client.enqueue(batch)
    part = "only a part of it was looked at"
    assert part not in (await visitor.get("/batch", params={"id": batch.id})).text
    monkeypatch.setattr("trioworkers.web.pages.batches.MOST_GRAPH", 100)
    assert part in (await visitor.get("/batch", params={"id": batch.id})).text


async def test_a_graph_that_somebody_has_written_over_is_told(
    visitor: httpx.AsyncClient, redis_url: str, command: Callable[..., Any]
):
    batch = Batch("order")
    batch.add(here("q", "Ship"), after=[batch.add(here("q", "Charge"))])
    async with Client(redis_url) as client:
        await client.enqueue(batch)
    command("DEL", f"tw:batch:{batch.id}:graph")
    command("SET", f"tw:batch:{batch.id}:graph", "<b>")
    found = await visitor.get("/batch", params={"id": batch.id})
    harmless_text(found.text)
    assert "a key holding the wrong kind of value" in found.text
