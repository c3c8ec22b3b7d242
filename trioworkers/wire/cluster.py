"""Which node of a Redis Cluster has our slot, asked of any node with one plain command. Bytes and values.

All our keys lie in one slot. So a node that answers for one of them is the one to use, and any other says where that is: MOVED, as it
would to every command. That needs no right to see the cluster's layout, is one line instead of a table of all nodes, and replicas say it, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from trioworkers.wire.resp import ErrorReply, Reply, encode_command
from trioworkers.wire.sentinel import MAX_PORT, Question, login

MOST_HOPS = 5
"""A node that was just told of a change may send us to another one, which sends us on. More is a circle."""
_MOVED = re.compile(r"MOVED \d{1,5} (\S{0,255}):(\d{1,5})(?:@\d+)?")


@attrs.frozen
class Elsewhere:
    """Where a node says the slot is. `host`: "" for the one that was asked."""

    host: str
    port: int


def whose(key: str, username: str | None, password: str | None) -> Question:
    """Asks a node whether it has the slot of `key`."""
    auth = login(username, password)
    commands = [auth, ("EXISTS", key)] if auth else [("EXISTS", key)]
    return Question(b"".join(encode_command(*command) for command in commands), len(commands))


def read_whose(replies: Sequence[Reply]) -> Elsewhere | None:
    """None if the node that answered has the slot, or refuses us (its client hears why). Raises ValueError, which says what is wrong."""
    *_, reply = replies
    if isinstance(reply, int):
        return None
    if not isinstance(reply, ErrorReply):
        raise ValueError(f"it answered {reply!r:.80}")  # noqa: TRY004 - what came is no value of ours
    found = _MOVED.fullmatch(reply)
    if found is not None and 0 < int(found[2]) <= MAX_PORT:
        return Elsewhere(found[1], int(found[2]))
    # Being moved away, the slot is still here: what its client asks for it hears of itself.
    if reply.startswith(("ASK ", "NOAUTH", "NOPERM", "LOADING", "TRYAGAIN")):
        return None
    raise ValueError(f"{reply:.120}")
