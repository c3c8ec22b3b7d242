"""Control messages: what somebody else may have written there, too."""

from __future__ import annotations

import json

import pytest

from trioworkers.wire.control_messages import ControlMessage, Reply, decode_message, decode_reply, encode


def test_messages_and_replies_come_out_as_they_went_in():
    message = ControlMessage("t", "cancel", "j", "discard", 3, 0.5)
    assert decode_message(encode(message)) == message
    reply = Reply("done", ["a"], 1)
    assert decode_reply(encode(reply)) == reply


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": -1},
        {"limit": -(10**400)},
        {"limit": 1.5},
        {"patience_s": -0.1},
        {"patience_s": 1e300},
        {"patience_s": "5"},
        {"do": "explode"},
        {"then": "explode"},
        {"token": None},
    ],
    ids=str,
)
def test_what_no_version_sends_is_no_message(fields: dict[str, object]):
    assert decode_message(json.dumps({"token": "t", "do": "tree", **fields}).encode()) is None


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"token":"t","do":"tree","limit":-1'], ids=repr
)
def test_garbage_is_no_message_and_no_reply(text: bytes):
    assert decode_message(text) is None
    assert decode_reply(text) is None
