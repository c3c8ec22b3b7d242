"""Every end of a job and every departure from a worker asks what is held: the pure functions, the scripts as text, and the scripts on a real server."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trioworkers
from trioworkers import Job
from trioworkers.broker.contract import Holder
from trioworkers.broker.holds.limits import Round
from trioworkers.broker.intake import open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.operator_actions import Delete, OperatorActions, ToDead
from trioworkers.broker.redis.connection import Connection, Link, connect
from trioworkers.departures import Held, Permit, held_unread, on_departure, on_end, on_outcome
from trioworkers.exits import on_exit, on_move, on_unread_exit
from trioworkers.jobs.client import Client
from trioworkers.jobs.recording import Record
from trioworkers.outcome import LET_GO, Acknowledge, Bury, Checkpoint, Discard, Expire, Outcome, Requeue, Retry, Snooze
from trioworkers.send import Send
from trioworkers.settings import Settings
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock import Lock
from trioworkers.wire.places import Location

BROKER = Path(trioworkers.__file__).parent / "broker"
SCRIPTS = {path.name: path.read_text() for path in BROKER.rglob("*.lua") if path.parent.name != "preludes"}

# ── the scripts as text ────────────────────────────────────────────────────────────────────────────────────────────────

ENDS = re.compile(r"\bbury\(|'(LREM|LTRIM|LPOP|RPOP|LMOVE|ZREM|ZREMRANGEBY\w+|UNLINK|DEL|LSET)'")
"""By what a payload can leave its place in a script: buried, deleted, pushed back, trimmed."""
ASKS = re.compile(r"\b(apply|let_go|let_list_go|note_unread)\b")
HOLD_NOTHING = {
    "admit.lua": "parks, and says itself what that lets go",
    "beat.lua": "takes signals, which are no payloads",
    "claim.lua": "touches keys of the worker only",
    "declare.lua": "touches limits only",
    "deregister.lua": "deletes records of the worker and registry entries of lists that are empty",
    "due.lua": "takes control messages; due payloads are only read, but for what is too large for that and is moved unread",
    "due_delayed.lua": "reads; what it removes are seconds whose list is empty",
    "fetch.lua": "a way in: what is fetched is let go by whoever settles it; what is too large for that is buried unread",
    "fetch_capsule.lua": "as fetch.lua",
    "fetch_large.lua": "as fetch.lua; what it puts back was moved within one MULTI, and nobody has seen it",
    "edit_cron.lua": "touches entries of periodic jobs and their histories, which are no payloads",
    "outbox_done.lua": "takes away what lies in another shard by now, with all that it holds",
    "register_cron.lua": "touches entries of periodic jobs only",
    "register_resque.lua": "touches Resque's records of workers",
    "settle_large.lua": "takes no group of which anything holds something (`are_large`), and counts what is left in a list that has another name within one MULTI",
    "ticks.lua": "a way in; what it removes are entries of periodic jobs",
}


def test_every_script_by_which_a_payload_may_leave_asks_what_is_held():
    silent = {name for name, text in SCRIPTS.items() if ENDS.search(text) and not ASKS.search(text)}
    assert silent <= HOLD_NOTHING.keys(), "ask exits.on_exit or on_departure, and apply the effects in the same script"


def test_a_script_that_buries_without_asking_would_be_found():
    text = SCRIPTS["reclaim.lua"]
    assert ENDS.search(text)
    assert not ASKS.search(ASKS.sub("", text))


def test_no_command_of_the_broker_removes_payloads_past_the_scripts():
    direct = re.compile(r"client\.(lrem|ltrim|lpop|rpop|lmove|zrem|zremrangeby\w+|unlink|delete)\(")
    found = {
        f"{path.name}: {match.group()}" for path in BROKER.rglob("*.py") for match in direct.finditer(path.read_text())
    }
    assert found == {"commands.py: client.lpop("}  # the demo plays Ruby, and takes the results that are for it


# ── the pure functions ─────────────────────────────────────────────────────────────────────────────────────────────────


def kept(effects: Any) -> dict[str, Any]:
    [(kind, jid, text, keep_s)] = effects
    assert kind == "result"
    return {"jid": jid, "keep_s": keep_s, **json.loads(text)}


@pytest.mark.parametrize("how", ["dead", "discarded", "expired", "deleted", "purged", "replaced"])
def test_job_that_keeps_its_result_says_how_it_ended_whoever_ends_it(how: Any):
    payload = b'{"jid":"j","tw_keep":60,"error_class":"E","error_message":"m"}'
    told = kept(on_exit(payload, how))
    assert (told["jid"], told["keep_s"], told["how"]) == ("j", 60, how)
    assert ("error_class" in told) is (how == "dead")


@pytest.mark.parametrize("keep", ["null", "0", "-5", "true", '"60"', "[60]", "1e999", "{}", "9" * 400, "-" + "9" * 400])
def test_what_strangers_write_into_the_field_keeps_nothing_or_a_bounded_time(keep: str):
    effects = on_exit(b'{"jid":"j","tw_keep":' + keep.encode() + b"}", "dead")
    assert effects == () or effects[0][3] <= 30 * 86_400


@given(st.binary() | st.binary().map(lambda junk: b'{"tw_keep":' + junk))
def test_payload_of_whatever_bytes_can_be_asked(payload: bytes):
    assert all(effect[3] <= 30 * 86_400 for effect in on_exit(payload, "deleted") if effect[0] == "result")


def test_plain_jobs_hold_nothing():
    assert on_exit(b'{"jid":"j","class":"A","args":[]}', "dead") == ()
    assert on_end(Acknowledge(), "j", None) == ()
    assert on_departure(Acknowledge(), None) == ()


def test_ends_of_an_attempt_that_keeps_its_result():
    assert kept(on_end(Acknowledge(value=b"[1]"), "j", 9)) == {
        "jid": "j",
        "keep_s": 9,
        "how": "succeeded",
        "value": [1],
    }
    assert kept(on_end(Bury(b'{"error_class":"E"}'), "j", 9))["error_class"] == "E"
    assert kept(on_end(Discard(), "j", 9))["how"] == "discarded"
    assert kept(on_end(Expire(), "j", 9))["how"] == "expired"
    assert on_end(Requeue(), "j", 9) == ()


@pytest.mark.parametrize(
    ("how", "stays"), [("dead", 180 * 86_400), ("discarded", 0), ("expired", 0), ("deleted", 0), ("purged", 0)]
)
def test_what_lies_beside_a_payload_goes_with_its_job_and_stays_with_a_dead_one(how: Any, stays: int):
    assert on_exit(b'{"jid":"j","tw_record":{"beside":[2,90]}}', how) == (("steps", "j", (), stays),)
    assert on_exit(b'{"jid":"j","tw_record":{"steps":{"a":1}}}', how) == ()


@pytest.mark.parametrize("beside", ["[1]", "[1,-2]", "[0,0]", "7", '["1","2"]', "[true,true]", "null", "[[],{}]"])
def test_what_strangers_say_lies_beside_a_payload_is_read_or_left(beside: str):
    assert on_exit(b'{"jid":"j","tw_record":{"beside":' + beside.encode() + b"}}", "deleted") == ()


def test_results_that_are_not_written_go_with_what_is_written_next():
    record = Record(beside=1, unsaved={"a": msgspec.Raw(b"1")})
    held = Held("j", record=record)
    for outcome in (Retry(b"{}", 1), Requeue(), Snooze(b"{}", 1), Checkpoint(b"{}")):
        assert on_outcome(outcome, held) == (("steps", "j", ("a", b"1"), -1),)
    assert on_outcome(Bury(b"{}"), held) == (("steps", "j", ("a", b"1"), 180 * 86_400),)
    for end in (Acknowledge(), Discard(), Expire()):
        assert on_outcome(end, held) == (("steps", "j", (), 0),)
    assert on_outcome(LET_GO, held) == ()


@pytest.mark.parametrize(
    ("outcome", "for_whom"), [(Acknowledge(), ""), (Requeue(), "j"), (Bury(b"{}"), ""), (Discard(), "")]
)
def test_departure_lets_the_permit_go_and_keeps_it_for_a_job_that_was_put_back(outcome: Outcome, for_whom: str):
    [(*_, reserved)] = on_departure(outcome, Permit("m", ("crm",), "j", "holds"))
    assert reserved == for_whom
    assert on_departure(Checkpoint(b"{}"), Permit("m", ("crm",), "j", "holds")) == ()


# ── on a real server ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    async with connect(redis_url, Link(redis_url)) as opened:
        yield opened


async def told(connection: Connection, jid: str) -> str | None:
    text = await connection.call("t", lambda client: client.get(Keys().result(jid)))
    return None if text is None else json.loads(text)["how"]


async def sent(connection: Connection, *jids: str) -> list[bytes]:
    broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))
    await broker.send([Send(Job("q", "A", [], jid=jid, extra={"tw_keep": 60})) for jid in jids])
    return list(await connection.call("t", lambda client: client.lrange("queue:q", 0, -1)))[::-1]


async def test_deleting_burying_and_purging_by_an_operator_are_exits(connection: Connection):
    payloads = await sent(connection, "deleted", "buried", "purged", "purged too")
    actions, queue = OperatorActions(connection, Keys()), Location("queue", "q")
    await actions.move(queue, Entry("queue", payloads[0], "q"), Delete())
    await actions.move(queue, Entry("queue", payloads[1], "q"), ToDead())
    assert await actions.purge("q") == 2
    assert [await told(connection, jid) for jid in ("deleted", "buried")] == ["deleted", "dead"]
    assert [await told(connection, jid) for jid in ("purged", "purged too")] == ["purged", "purged"]


async def test_what_is_deleted_from_the_dead_set_has_ended_before(connection: Connection):
    [payload] = await sent(connection, "j")
    actions = OperatorActions(connection, Keys())
    await actions.move(Location("queue", "q"), Entry("queue", payload, "q"), ToDead())
    await actions.move(Location("dead"), Entry("dead", payload, score=1.0), Delete())
    assert await told(connection, "j") == "dead"


async def test_large_queue_is_purged_with_those_between_that_hold_something(connection: Connection):
    plain = [b'{"jid":"%d"}' % n for n in range(12_000)]
    await connection.call("t", lambda client: client.rpush("queue:q", plain))
    await sent(connection, "held")
    await connection.call("t", lambda client: client.lpush("queue:q", plain[:7000]))
    assert await OperatorActions(connection, Keys()).purge("q") == 19_001
    assert await told(connection, "held") == "purged"
    assert await connection.call("t", lambda client: client.exists(["queue:q"])) == 0


async def test_burial_after_too_many_crashes_is_an_exit(connection: Connection):
    [payload] = await sent(connection, "j")
    broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))
    await connection.call("t", lambda client: client.lpush(Keys().in_progress("q", "dead one"), [payload]))
    assert await broker.reclaim("dead one", "q", [(payload, "j", 1, payload)]) == (1, "")
    assert await told(connection, "j") == "dead"


async def test_due_job_that_names_no_queue_is_an_exit_when_it_is_buried(connection: Connection):
    payload = b'{"jid":"j","tw_keep":60}'
    await connection.call("t", lambda client: client.zadd("schedule", {payload: 1.0}))
    broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))
    assert await broker.promote("schedule", [(payload, None, payload)]) == (1, [])
    assert await told(connection, "j") == "dead"


# ── what nobody can read ───────────────────────────────────────────────────────────────────────────────────────────────

MUCH = 1_200_000
ARGS = [
    f'["{"x" * MUCH}"]',
    '[{"tw_keep": 7, "b": [' + "1," * (MUCH // 2) + "1]}]",
    '["' + r"\",\"tw_keep\":7," * (MUCH // 15) + '"]',
]


@pytest.mark.parametrize("args", ARGS, ids=["text", "object", "lookalike"])
@pytest.mark.parametrize("before", [True, False])
async def test_what_a_huge_payload_holds_is_let_go_though_nobody_reads_it(
    connection: Connection, redis_url: str, args: str, before: bool
):
    ours = '"tw_keep":60,"jid":"huge"'
    first, last = (ours, f'"args":{args}') if before else (f'"args":{args}', ours)
    payload = f'{{"class":"A",{first},{last}}}\n \t'
    guard = SizeGuard(Settings(max_payload_bytes=1024))
    broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000), guard=guard)
    await connection.call("t", lambda client: client.rpush("queue:q", [payload]))
    async with open_intake(broker, redis_url, 1.0, "q") as intake:
        assert (await intake.fetch(1)).payloads == []
    [noted] = (await broker.tend(Round())).unread
    ended = [(noted, on_unread_exit(noted, "dead"))]
    for _ in range(2):  # a lost reply
        assert (await broker.tend(Round(ended=ended))).unread == []
    assert await told(connection, "huge") == "dead"


async def test_batch_of_a_huge_member_is_over_and_the_lock_of_a_huge_job_is_free(
    connection: Connection, redis_url: str
):
    sender = RedisBroker(
        connection, Keys(), Holder("s", "s", 30_000), guard=SizeGuard(Settings(max_payload_bytes=2 * MUCH))
    )
    unique = Job("q", "A", ["x" * MUCH], jid="unique", lock=Lock("A:k"))
    await sender.send([Send(unique)])
    async with Client.around(sender).batch("some", on_finished=Job("c", "Over", runs_here=True)) as batch:
        await batch.add(Job("q", "A", ["x" * MUCH], jid="member", runs_here=True))

    broker = RedisBroker(
        connection, Keys(), Holder("w", "w", 30_000), guard=SizeGuard(Settings(max_payload_bytes=1024))
    )
    async with open_intake(broker, redis_url, 1.0, "q") as intake:
        assert (await intake.fetch(10)).payloads == []
    assert (await sender.send([Send(attrs.evolve(unique, jid="again"))])).keys() == {0}, "its lock is still held"
    ended = [(noted, on_unread_exit(noted, "dead")) for noted in (await broker.tend(Round())).unread]
    await broker.tend(Round(ended=ended))
    while await broker.move_on():
        pass
    [callback] = await connection.call("t", lambda client: client.lrange("queue:c", 0, -1))
    assert json.loads(callback)["class"] == "Over"
    assert not await sender.send([Send(attrs.evolve(unique, jid="again"))])


@pytest.mark.parametrize(
    "noted", [b"", b"\xc1", b"\x92\x01\x02", b"\x93aab", b"\x92\xa1{\xa2,}", b"\x92\x91\x01\x91\x02"]
)
def test_what_somebody_forged_of_it_lets_nothing_go(noted: bytes):
    assert on_unread_exit(noted, "dead") == ()


def test_move_notes_the_lock_and_the_batch_of_a_job_and_nothing_of_others():
    assert on_move(b'{"jid":"j","tw_lock":"A:1","tw_batch":"b","tw_keep":60}') == (
        ("touch", "A:1", "j"),
        ("moved", "b"),
    )
    assert on_move(b'{"jid":"j","tw_keep":60}') == ()
    assert on_move(b'{"jid":"j","tw_lock":7,"tw_batch":[]}') == ()


def test_job_that_its_own_worker_buries_unread_lets_go_what_anybody_else_would():
    fields = {
        "jid": "j",
        "tw_keep": 60,
        "tw_lock": "A:1",
        "tw_batch": "b",
        "tw_record": {"beside": [1, 9]},
    }
    payload = json.dumps(fields).encode()
    by_others = {effect[0] for effect in on_exit(payload, "dead")}
    by_its_worker = {effect[0] for effect in on_outcome(Bury(payload), held_unread(payload, None))}
    assert by_its_worker == by_others == {"result", "unlock", "member", "steps"}
