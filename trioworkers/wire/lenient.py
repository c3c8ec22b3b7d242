r"""JSON as others write it, where our reader refuses it: numbers that no float holds, NaN, halves of characters. Slow, and seldom asked.

Ruby reads `1e400` as Infinity, and integers of any length. Python writes `NaN`, and JavaScript the half of a character (`"\ud800"`), which Ruby refuses. What is not
for us is moved as it came, whatever Ruby would say of it; what is for us is read as Ruby reads it.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import msgspec

MAX_DIGITS = 4300
"""Of an integer: Python writes none that is longer, so no handler could show it, nor send it on."""
BOM = "\ufeff"
_BLANKS = re.compile(r"[ \t\r\n]*")


def split(payload: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object as they are spelled. Raises ValueError."""
    text = payload.decode(errors="surrogateescape").removeprefix(BOM)
    read = json.JSONDecoder(strict=False, parse_int=len, parse_float=len, parse_constant=len).raw_decode
    found: dict[str, msgspec.Raw] = {}
    at = _after(text, _blanks(text, 0), "{")
    while True:
        at = _blanks(text, at)
        if not found and text[at : at + 1] == "}":
            break
        name, at = read(text, at)
        if not isinstance(name, str):
            raise ValueError("a name is no text")  # noqa: TRY004 - of a JSON text: callers know one kind of error
        begins = _blanks(text, _after(text, _blanks(text, at), ":"))
        _, at = read(text, begins)
        found[name] = msgspec.Raw(text[begins:at].encode(errors="surrogateescape"))
        at = _blanks(text, at)
        if text[at : at + 1] != ",":
            break
        at += 1
    if _blanks(text, _after(text, at, "}")) != len(text):
        raise ValueError("something follows the object")
    return found


def read_numbers(payload: bytes) -> dict[str, Any]:
    """The fields of a JSON object in which numbers have any size: what no float holds is infinite, as in Ruby. Raises ValueError."""
    fields = json.loads(payload.decode(), parse_int=_int, parse_constant=_refuse)
    if not isinstance(fields, dict):
        raise ValueError("no object")  # noqa: TRY004 - as above
    json.dumps(fields, ensure_ascii=False).encode()  # raises for halves of characters
    return fields


def _after(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise ValueError(f"no {mark} at {at}")
    return at + 1


def _blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return at if found is None else found.end()


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits, more than the {MAX_DIGITS} that Python writes")
    return int(digits)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
