"""A job that comes in the very moment in which the wait for it is ended: it runs or goes back, and nobody is alarmed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
import trio
from servers import Server

from trioworkers import App, Worker
from trioworkers.broker.intake import RedisIntake

KINDS = {"alone": 1, "few": 3}


class LastMoment:
    """Each time that a wait is ended another job is pushed to its queue just before Redis hears of that."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch, pad: int = 0) -> None:
        self.server = server
        self.pushed: list[str] = []
        self.wanted = False
        self.pad = pad
        end_wait = RedisIntake._end_wait

        async def late(intake: RedisIntake, client_id: int) -> None:
            if self.wanted and intake._name == "q0":
                self.wanted = False
                self.push()
            await end_wait(intake, client_id)

        monkeypatch.setattr(RedisIntake, "_end_wait", late)

    def push(self) -> None:
        jid = f"jid{len(self.pushed)}"
        self.pushed.append(jid)
        job = {"class": "Note", "args": [jid], "jid": jid, "retry": 0, "pad": "x" * self.pad}
        self.server.command("LPUSH", "queue:q0", json.dumps(job))

    def lying(self) -> list[str]:
        """What is in the queue, or in progress."""
        keys = ["queue:q0", *self.server.command("KEYS", "queue:q0:*inprogress")]  # type: ignore[misc]
        return [json.loads(each)["jid"] for key in keys for each in self.server.command("LRANGE", key, 0, -1)]  # type: ignore[union-attr]


def noting(url: str, kind: str, **settings: object) -> tuple[App, Counter[str]]:
    """An app whose queues are fetched in this way, and what ran in it."""
    app = App(url, **settings)  # type: ignore[arg-type]
    ran: Counter[str] = Counter()

    async def note(jid: str) -> None:
        ran[jid] += 1

    names = [f"q{number}" for number in range(KINDS[kind])]
    for name in names:
        app.handler(name, "Note")(note)
    if kind != "alone":
        app.capsule("together", concurrency=20, queues=names)
    return app, ran


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.005)


def waits(server: Server, count: int) -> bool:
    """Whether so many connections are blocked."""
    return f"blocked_clients:{count}\r" in f"{server.command('INFO', 'clients')}\r"


def pause(worker: Worker) -> None:
    worker._served["q0"].pause(paused=True)


def need_slot(worker: Worker) -> None:
    worker._served["q0"].slots.idle()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [pause, need_slot, Worker.quiet, Worker.stop])
async def test_who_goes_on_runs_it(
    redis_url: str,
    shared_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    end: Callable[[Worker], None],
):
    app, ran = noting(redis_url, kind)
    moment = LastMoment(shared_server, monkeypatch)
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(app.serve)
        await until(lambda: waits(shared_server, KINDS[kind]))
        moment.wanted = True
        end(worker)
        await until(lambda: moment.pushed and not moment.lying())
        worker.stop()
    assert ran == {"jid0": 1}
    assert "never arrived" not in caplog.text


@pytest.mark.parametrize("kind", KINDS)
async def test_who_goes_puts_it_back(
    redis_url: str,
    shared_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
):
    app, ran = noting(redis_url, kind)
    moment = LastMoment(shared_server, monkeypatch)
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(app.serve)
        await until(lambda: waits(shared_server, KINDS[kind]))
        moment.wanted = True
        worker.stop(0)
    assert (moment.lying(), ran) == (["jid0"], {})
    assert shared_server.command("KEYS", "*inprogress") == []
    assert "never arrived" not in caplog.text
    assert "does not stop" not in caplog.text


async def test_what_is_too_large_to_be_moved_is_buried_then_too(
    redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    app, ran = noting(redis_url, "alone", max_payload_bytes=1000)
    moment = LastMoment(shared_server, monkeypatch, pad=2 << 20)
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(app.serve)
        await until(lambda: waits(shared_server, 1))
        moment.wanted = True
        pause(worker)
        await until(lambda: shared_server.command("ZCARD", "dead"))
        worker.stop()
    assert (moment.lying(), ran) == ([], {})
    assert "goes to the dead set unread: too large to be moved" in caplog.text
    assert "never arrived" not in caplog.text


async def test_what_no_answer_tells_of_is_put_back_and_said(
    redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The connection ends with the wait: the job did come to nobody."""
    app, ran = noting(redis_url, "alone")
    moment = LastMoment(shared_server, monkeypatch)
    monkeypatch.setattr(RedisIntake, "_end_wait", _cut(moment))
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(app.serve)
        await until(lambda: waits(shared_server, 1))
        pause(worker)
        await until(lambda: "1 job, fetched from q0, never arrived here: put back" in caplog.text)
        worker._served["q0"].pause(paused=False)
        await until(lambda: not moment.lying())
        worker.stop()
    assert ran == {"jid0": 1}


def _cut(moment: LastMoment) -> Callable[..., object]:
    async def cut(intake: RedisIntake, client_id: int) -> None:
        if not moment.pushed:
            script = "redis.call('LPUSH', KEYS[1], ARGV[1]) redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')"
            moment.pushed.append("jid0")
            job = json.dumps({"class": "Note", "args": ["jid0"], "jid": "jid0", "retry": 0})
            moment.server.command("EVAL", script, 2, "queue:q0", intake._list, job)
            moment.server.command("CLIENT", "KILL", "ID", client_id)

    return cut
