"""What Sentinels say, read without any: the protocol, answers that are none, and which of several counts."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.wire.resp import MAX_BYTES, NoReply, encode_command, read_replies
from trioworkers.wire.sentinel import Named, candidates, contradiction, is_settled, read_named, where_is, why_no_primary

PLACE = b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6380\r\n"
DETAILS = b"*4\r\n$5\r\nrunid\r\n$3\r\nabc\r\n$12\r\nconfig-epoch\r\n$1\r\n7\r\n"


def test_reply_is_read_however_it_comes_in_pieces():
    whole = PLACE + DETAILS
    for cut in range(len(whole)):
        assert read_replies(whole[:cut], 2) is None
    replies = read_replies(whole, 2)
    assert replies is not None
    assert read_named("main", replies) == Named("127.0.0.1", 6380, 7, "abc")


@given(st.binary(max_size=200))
def test_any_bytes_are_replies_or_none_yet_or_refused(data: bytes):
    try:
        replies = read_replies(data, 2)
    except NoReply:
        return
    if replies is None:
        return
    with suppress(ValueError):
        assert read_named("main", replies).port > 0


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$99999999999\r\n",
        b"*1\r\n" * 20,
        b":one\r\n",
        b"*x\r\n",
        b"+" + b"x" * MAX_BYTES,
        b"*999999999\r\n" + b":1\r\n" * (MAX_BYTES // 4),
    ],
)
def test_what_is_no_reply_is_refused(data: bytes):
    with pytest.raises(NoReply):
        read_replies(data, 1)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"*-1\r\n", "it watches no primary named 'main'"),
        (b"-NOAUTH Authentication required.\r\n", "sentinel_password="),
        (b"-ERR unknown command\r\n", "ERR unknown command"),
        (b"*2\r\n$1\r\nh\r\n$1\r\n0\r\n", "it answered"),
        (b"*2\r\n$1\r\nh\r\n$5\r\n65536\r\n", "it answered"),
        (b"*2\r\n$0\r\n\r\n$4\r\n6379\r\n", "it answered"),
        (b"*1\r\n$1\r\nh\r\n", "it answered"),
        (b":1\r\n", "it answered"),
    ],
)
def test_answer_that_names_no_place_says_why(reply: bytes, why: str):
    replies = read_replies(reply + b"-NOPERM\r\n", 2)
    assert replies is not None
    with pytest.raises(ValueError, match=r".") as caught:
        read_named("main", replies)
    assert why in str(caught.value)


def test_login_goes_first_and_whole_names():
    question = where_is("my main", "me", "p w")
    assert question.words.startswith(encode_command("AUTH", "me", "p w"))
    assert question.replies == 3
    assert b"$7\r\nmy main\r\n" in question.words
    assert where_is("m", None, None).replies == 2


def test_only_a_primary_is_one():
    assert why_no_primary([[b"server", b"redis", b"mode", b"standalone", b"role", b"master", b"modules", []]]) == ""
    assert "replica" in why_no_primary([[b"role", b"replica"]])
    assert "Sentinel" in why_no_primary([[b"mode", b"sentinel", b"role", b"master"]])
    assert "without a role" in why_no_primary([[]])
    assert why_no_primary([5])


def test_latest_epoch_comes_first_and_a_place_once():
    old, new = Named("h", 1, 3, "a"), Named("h", 2, 4, "b")
    named = {"x": old, "y": new, "z": Named("h.example", 2, 4, "b")}
    assert candidates(named) == [new, old]
    assert contradiction(new, old, named) == ""
    assert is_settled(named, 3)
    assert not is_settled(named, 4)
    other = Named("h", 9, 4, "c")
    assert "y says h:2, w says h:9" in contradiction(new, other, {**named, "w": other})
