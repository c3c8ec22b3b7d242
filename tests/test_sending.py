"""What every client does, without Redis and without a clock: jobs in, calls out, replies read."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from trioworkers import BadJob, Job, Refused, Sent, Unavailable
from trioworkers.errors import CannotServe
from trioworkers.send import Send
from trioworkers.sending import CALL_LIFE_S, PARCEL_BYTES, PARCEL_JOBS, TOKEN_S, Sending, late, read
from trioworkers.settings import Settings
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.encode import encode
from trioworkers.wire.packing import unpack

NOW_S = 1_700_000_000.0


def sending(namespace: str = "", **options: Any) -> Sending:
    return Sending(SIDEKIQ.keys(namespace), **options)


def jobs(count: int, **fields: Any) -> list[Send]:
    return [Send(Job("q", "Work", [n], jid=f"{n:024x}", **fields)) for n in range(count)]


def payloads(parcels: Iterable[bytes]) -> list[list[int]]:
    """The first argument of each job that goes into a queue, by parcel."""
    return [
        [json.loads(payload)["args"][0] for _, _, found, *_ in unpack(parcel)[0] for payload in found]
        for parcel in parcels
    ]


def test_parcels_keep_the_order_and_hold_a_thousand():
    found = payloads(sending().parcels(jobs(2 * PARCEL_JOBS + 1), NOW_S))
    assert [len(parcel) for parcel in found] == [PARCEL_JOBS, PARCEL_JOBS, 1]
    assert [n for parcel in found for n in parcel] == list(range(2 * PARCEL_JOBS + 1))


def test_parcels_end_after_so_many_bytes():
    large = [Send(Job("q", "Work", [n, "x" * 1_000_000])) for n in range(20)]
    found = payloads(sending().parcels(large, NOW_S))
    assert [len(parcel) for parcel in found] == [PARCEL_BYTES // 1_000_000, PARCEL_BYTES // 1_000_000, 4]


def test_nothing_makes_no_parcel():
    assert [*sending().parcels([], NOW_S)] == []


def test_queues_of_several_dialects_go_together_each_as_it_is_spoken():
    resque = dialect_named("resque")
    both = sending(foreign={"old": (resque, resque.keys(""))})
    (parcel,) = both.parcels([Send(Job("q", "New", [1])), Send(Job("old", "Old", [2]), delay_s=3.0)], NOW_S)
    push, later = unpack(parcel)
    assert [(name, key, end) for name, key, _, end, _ in push] == [("q", "queue:q", "LPUSH")]
    assert [delay for _, delay, _, _ in later] == [3.0]
    assert json.loads(later[0][0])["class"] == "Old"
    assert later[0][3] == resque.keys("").waiting or tuple(later[0][3]) == tuple(resque.keys("").waiting)


def test_bad_job_is_found_before_anything_is_made_of_the_rest():
    with pytest.raises(BadJob, match="written as JSON"):
        [*sending().parcels([*jobs(3), Send(Job("q", "Bad", [float("nan")]))], NOW_S)]
    with pytest.raises(BadJob, match="max_payload_bytes"):
        [*sending(guard=SizeGuard(Settings(max_payload_bytes=10))).parcels(jobs(1), NOW_S)]


def test_plain_call_has_no_token():
    call = sending().call([b"a", b"b"])
    assert (call.keys, call.args) == ([], [b"", b"a", b"b"])


def test_repeatable_calls_of_one_token_have_keys_of_their_own_in_the_namespace():
    made = [sending("shop").repeatable(b"x", "token", n, NOW_S) for n in range(3)]
    assert [call.keys for call in made] == [
        ["shop:tw:sent:token"],
        ["shop:tw:sent:token-1"],
        ["shop:tw:sent:token-2"],
    ]
    assert float(made[0].args[0]) == NOW_S + CALL_LIFE_S
    assert CALL_LIFE_S < TOKEN_S


def test_reply_tells_which_parcels_were_refused():
    found = read([b"", b"WRONGTYPE no list", b"", b"OOM full"])
    assert {place: type(error) for place, error in found.items()} == {1: Refused, 3: CannotServe}
    assert read([]) == {}


def test_late_call_tells_the_time():
    assert late(Refused("ERR LATE 1700000000.250")) == 1_700_000_000.25
    assert late(Refused("LATELY 3")) is None
    assert late(Unavailable("OOM command not allowed")) is None


def test_what_was_sent_is_a_string_and_can_be_sent_on():
    sent = Sent("0123456789abcdef01234567")
    assert (sent, type(pickle.loads(pickle.dumps(sent))), json.dumps(sent)) == (str(sent), Sent, f'"{sent}"')
    fields = json.loads(encode(Job("q", "Next", [sent, [sent], {"of": sent}], jid=sent), NOW_S))
    assert (fields["args"], fields["jid"]) == ([sent, [sent], {"of": sent}], sent)


def test_values_of_classes_that_are_numbers_or_strings_are_sent_as_those():
    class UserId(int): ...

    class Price(float): ...

    assert json.loads(encode(Job("q", "X", [UserId(7), Price(1.5)]), NOW_S))["args"] == [7, 1.5]
    with pytest.raises(BadJob, match="can't be written as JSON"):
        encode(Job("q", "X", [object()]), NOW_S)


def test_core_knows_no_event_loop_and_no_redis_client():
    program = (
        "import sys, trioworkers.sending; print([m for m in ('trio', 'anyio', 'coredis', 'redis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"
