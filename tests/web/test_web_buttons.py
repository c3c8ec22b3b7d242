"""Buttons do what the commands do: to one, to those ticked, to all that match; and say what came of it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from servers import Server, Worker, wait_for
from visiting import HERE, failed, payload, visiting

from trioworkers.broker.people.operator_actions import Delete
from trioworkers.web import asgi, operations
from trioworkers.web.deleted import Deleted
from trioworkers.wire.entry import Entry


def picks_on(page: str) -> list[str]:
    return [html.unescape(value) for value in re.findall(r'name="pick" value="([^"]*)"', page)]


async def press(visitor: httpx.AsyncClient, path: str, **fields: Any) -> str:
    """Press a button; the page that it leads to."""
    done = await visitor.post(path, data={"back": "/dead", **fields})
    assert done.status_code == 303, done.text
    return (await visitor.get(done.headers["location"])).text


async def test_retry_those_that_are_ticked(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    for number in range(5):
        command("ZADD", "dead", 5 - number, failed(number))
    ticked = picks_on((await visitor.get("/dead")).text)[:2]
    page = await press(visitor, "/do/act", act="retry", pick=ticked)
    assert "2 jobs sent to be retried" in page
    assert command("ZCARD", "dead") == 3
    assert sorted(json.loads(each)["jid"] for each in command("LRANGE", "queue:default", 0, -1)) == [
        f"{0:024x}",
        f"{1:024x}",
    ]


async def test_what_has_moved_on_is_said(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    command("ZADD", "dead", 1, failed(1))
    ticked = picks_on((await visitor.get("/dead")).text)
    command("DEL", "dead")
    assert "1 had moved on" in await press(visitor, "/do/act", act="delete", pick=ticked)


async def test_delete_can_be_undone_once(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    before = failed(1)
    command("ZADD", "dead", 1, before)
    page = await press(visitor, "/do/act", act="delete", pick=picks_on((await visitor.get("/dead")).text))
    assert command("EXISTS", "dead") == 0
    operation = re.search(r'name="id" value="(\w+)"', page)
    assert operation is not None
    assert "1 job back in the dead set" in await press(visitor, "/do/undo", id=operation[1])
    assert command("ZRANGE", "dead", 0, -1, "WITHSCORES") == [before, "1"]
    again = await visitor.post("/do/undo", data={"id": operation[1]})
    assert again.status_code == 404


async def test_undo_that_fails_can_be_done_again(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    jobs = [failed(number) for number in range(2)]
    command("ZADD", "dead", 1, jobs[0], 2, jobs[1])
    page = await press(visitor, "/do/act", act="delete", pick=picks_on((await visitor.get("/dead")).text))
    operation = operation_on(page)
    command("SET", "dead", "no set")
    assert "0 jobs back in the dead set" in await press(visitor, "/do/undo", id=operation)
    command("DEL", "dead")
    assert "2 jobs back in the dead set" in await press(visitor, "/do/undo", id=operation)
    assert command("ZRANGE", "dead", 0, -1) == jobs


async def test_undo_that_has_to_wait_for_others_is_not_lost(
    visitor: httpx.AsyncClient, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    command("ZADD", "dead", 1, failed(1))
    page = await press(visitor, "/do/act", act="delete", pick=picks_on((await visitor.get("/dead")).text))
    with monkeypatch.context() as patched:
        patched.setattr(operations, "AT_ONCE", 0)
        refused = await visitor.post("/do/undo", data={"id": operation_on(page)})
        assert "wait for one of them" in refused.text
    assert "1 job back in the dead set" in await press(visitor, "/do/undo", id=operation_on(page))


async def test_those_of_a_queue_are_found_where_they_lie(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    command("SADD", "queues", "a:b")
    for number in range(60):
        command("LPUSH", "queue:a:b", payload(number, queue="a:b"))
    ticked = picks_on((await visitor.get("/queue?name=a:b&from=25")).text)
    assert len(ticked) == 25
    assert "25 jobs buried" in await press(visitor, "/do/act", act="bury", pick=ticked)
    left = {json.loads(each)["args"][0] for each in command("LRANGE", "queue:a:b", 0, -1)}
    assert left == {*range(25), *range(50, 60)}


async def test_all_that_match_are_counted_first(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    for number in range(300):
        command("ZADD", "dead", number, failed(number, error_class="KeyError" if number % 3 == 0 else "ValueError"))
    form = {"act": "retry", "all": "1", "in": "dead", "q": "error=KeyError", "back": "/dead?q=error%3DKeyError"}
    asked = await visitor.post("/do/act", data=form)
    assert "100 jobs of 300 in the dead set will be sent to be retried" in asked.text
    assert command("ZCARD", "dead") == 300
    page = await press(visitor, "/do/act", **form, sure="1")
    assert "100 jobs of the dead set sent to be retried" in page
    assert command("ZCARD", "dead") == 200
    assert command("LLEN", "queue:default") == 100


@pytest.mark.parametrize("place", ["dead", "queue:q"])
async def test_deletion_of_all_that_match_can_be_undone(
    visitor: httpx.AsyncClient, command: Callable[..., Any], place: str
):
    jobs = [failed(number, error_class="KeyError" if number % 3 else "ValueError") for number in range(1800)]
    if place == "dead":
        command("ZADD", "dead", *(word for number, job in enumerate(jobs) for word in (number, job)))
    else:
        command("SADD", "queues", "q")
        command("LPUSH", "queue:q", *jobs)
    form = {"act": "delete", "all": "1", "in": place, "q": "error=KeyError", "back": "/done", "sure": "1"}
    page = await press(visitor, "/do/act", **form)
    while "running" in page:
        page = (await visitor.get("/done", params={"did": operation_on(page)})).text
    assert "1,200 jobs" in page
    assert command("ZCARD", "dead") == 600 if place == "dead" else command("LLEN", "queue:q") == 600
    assert "1,200 jobs back in" in await press(visitor, "/do/undo", id=operation_on(page))
    if place == "dead":
        assert command("ZRANGE", "dead", 0, -1) == jobs
    else:
        back = command("LRANGE", "queue:q", 0, 1199)  # behind those that stayed, in their own order
        assert [json.loads(each)["args"][0] for each in back][::-1] == [n for n in range(1800) if n % 3]


def operation_on(page: str) -> str:
    found = re.search(r'name="id" value="(\w+)"', page)
    assert found is not None, page
    return found[1]


def test_what_somebody_else_had_first_is_not_brought_back():
    entries = [Entry("dead", payload(number).encode()) for number in range(4)]
    deleted = Deleted(lambda _: Delete())
    for entry in entries[:2]:
        deleted.decide(entry)
    assert deleted.known() == []  # it may be stopped here: nobody knows whether these are gone
    deleted.end_page(2)
    assert deleted.known() == entries[:2]
    for entry in entries[2:]:
        deleted.decide(entry)
    deleted.end_page(1)
    assert deleted.known() == []
    deleted.end_page(0)
    assert deleted.known() == []


async def test_a_full_dead_set_is_told_of(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    for start in range(0, 9999, 1111):
        command("ZADD", "dead", *(word for number in range(start, start + 1111) for word in (number, failed(number))))
    command("ZADD", "retry", 1, failed(20_000))
    asked = await visitor.post("/do/act", data={"act": "bury", "all": "1", "in": "retry"})
    assert "its 1 oldest will be gone" in asked.text


async def test_what_makes_no_sense_is_refused(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    for form in (
        {"act": "explode", "all": "1", "in": "dead"},
        {"act": "retry", "all": "1", "in": "schedule"},
        {"act": "run-now", "all": "1", "in": "dead"},
        {"act": "delete", "all": "1", "in": "running"},
        {"act": "delete"},
        {"act": "delete", "pick": "nonsense"},
        {"act": "delete", "pick": '["running","",null,"x"]'},
        {"act": "delete", "pick": '["dead","","nan?","x"]'},
    ):
        assert (await visitor.post("/do/act", data=form)).status_code == 400, form
    assert (await visitor.post("/do/signal", data={"identity": "x", "signal": "stop"})).status_code == 404
    assert (await visitor.post("/do/signal", data={"identity": "x", "signal": "KILL"})).status_code == 400
    assert (await visitor.post("/do/cancel", data={"jid": "x", "then": "burn"})).status_code == 400


async def test_pause_resume_and_purge(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    command("SADD", "queues", "default")
    command("LPUSH", "queue:default", payload(1), payload(2))
    assert "default: paused" in await press(visitor, "/do/pause", queue="default")
    assert ">paused<" in (await visitor.get("/queue?name=default")).text
    assert command("SMEMBERS", "paused") == ["default"]
    assert "default: resumed" in await press(visitor, "/do/resume", queue="default")
    assert "SyncJob: paused" in await press(visitor, "/do/pause", **{"class": "SyncJob"})
    assert command("SMEMBERS", "tw:paused:classes") == ["SyncJob"]
    asked = await visitor.post("/do/purge", data={"queue": "default"})
    assert "2 jobs in queue default will be deleted" in asked.text
    assert command("LLEN", "queue:default") == 2
    assert "2 jobs of queue default deleted" in await press(visitor, "/do/purge", queue="default", sure="1")


async def test_redis_that_goes_while_a_button_works_is_its_result(server: Server):
    server.command("ZADD", "dead", 1, failed(1))
    async with visiting(asgi(server.url), headers=HERE) as visitor:
        ticked = picks_on((await visitor.get("/dead")).text)
        server.command("SET", "queue:default", "no list")
        page = await press(visitor, "/do/act", act="retry", pick=ticked)
        assert "left, Redis refuses" in page
        server.kill()
        assert (await visitor.post("/do/act", data={"act": "retry", "pick": ticked})).status_code == 303
    server.start()
    assert server.command("ZCARD", "dead") == 1


async def test_a_running_job_is_shown_and_cancelled(work: Callable[..., Worker], server: Server, jobs: Any):
    worker = work().wait_started()
    jobs.push(1, "Sleep", 600)
    wait_for(lambda: jobs.counted("start"), "it runs")
    async with visiting(asgi(server.url), headers=HERE) as visitor:
        jid = next(iter(jobs.payloads))
        page = (await visitor.get(f"/job?jid={jid}")).text
        assert "Where it awaits" in page
        assert "process_app.py" in page  # down to the line
        process = html.unescape(re.search(r'name="process" value="([^"]*)"', page)[1])  # type: ignore[index]
        done = await visitor.post("/do/cancel", data={"jid": jid, "process": process, "then": "bury", "back": "/dead"})
        wait_for(lambda: server.command("ZCARD", "dead") == 1, "it is dead")
        assert done.status_code == 303
    assert worker.process.poll() is None
