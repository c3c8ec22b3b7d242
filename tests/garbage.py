"""What somebody might have written to keys of ours: bytes that are nothing, and what looks as if it were ours."""

from __future__ import annotations

from trioworkers.registry import KEYS
from trioworkers.wire.packing import pack

NAN, INF = float("nan"), float("inf")
BYTES = b"\xff\xfe \x00 no text"
NAMES = {"PROCESS": "w1", "LIMIT": "crm", "LIST": "queue:q:w1:inprogress", "TOKEN": "t", "JID": "jid0"}
NAMES |= {"QUEUE": "q", "CLASS": "Note", "ID": "b1"}
OURS = [key for key in KEYS if "Resque" not in key.what]
SHAPES = (
    *map(
        pack, ([], {}, [[1], [2]], [b"a", [1]], [[[7, 1, [b"{}"]]], []], [b"q", 1, 2, 3, 4, 5, 6], {b"jid": 7}, 1, b"a")
    ),
    *map(pack, ([1, None, 2, None, 3], {7: [1]}, [NAN, INF, -INF, 1e308, -1])),
    *(
        b"",
        b"1",
        b"-1",
        b"1e400",
        b"nan",
        b"[]",
        b"{}",
        b"null",
        b'{"class":1,"jid":[],"queue":{},"args":{}}',
        b'[["a",1]]',
    ),
    *(b"a b", b"a b c", b"dead q", b"w1", b"jid0", b"q", b"crm", b"a:b:c:inprogress", b"1-1", b"1:2"),
)
"""What somebody might have written who knows a little of how we write: packed, in JSON, numbers, and names of what there is."""
WRITE = {
    "string": ("SET", BYTES),
    "list": ("RPUSH", BYTES, *SHAPES),
    "set": ("SADD", BYTES, *SHAPES),
    "sorted set": ("ZADD", 1, BYTES, *(word for shape in SHAPES for word in (1, shape))),
    "hash": (
        "HSET",
        BYTES,
        BYTES,
        *(word for n, field in enumerate(("jid0", *SHAPES)) for word in (field, SHAPES[7 * n % len(SHAPES)])),
    ),
}


def key_of(name: str) -> str:
    for variable, value in NAMES.items():
        name = name.replace(variable, value)
    return name
