"""Makes strangers' text safe to show: in logs, tables, JSON lines, errors. The only place that knows what must not be shown as it is. Pure.

What comes from payloads, keys and replies must neither end a line (it would forge the next one), nor speak to a terminal, nor turn the order
of what is read, nor be what UTF-8 can't say.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_TURNS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Marks that change in which direction text runs, so that it reads otherwise than it is."""

_HIDDEN = (0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080))
"""A byte order mark, annotations, tags: they aren't seen."""


@cache
def _tables() -> tuple[dict[int, str], dict[int, str], dict[int, str]]:
    """What stands for what: on one line, on lines, in JSON. Made when first needed: there are 2,200 of them in each, and most programs meet none."""
    of_bytes = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
    wide = {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *_TURNS, *_HIDDEN[:4], *range(0xD800, 0xE000))}
    wider = {code: f"\\U{code:08x}" for code in _HIDDEN[4:]}
    on_one_line = of_bytes | wide | wider
    on_lines = {code: shown for code, shown in on_one_line.items() if code not in (0x09, 0x0A)}
    in_json = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *wide)} | {
        code: f"\\u{0xD800 + ((code - 0x10000) >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}" for code in wider
    }
    return on_one_line, on_lines, in_json


_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {chr(code) for code in range(0xFE00, 0xFE10)}
"""Printable by their category, but nothing is seen of them."""

_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "'": "\\'", "\\": "\\\\"}


class Lines(str):
    """Text of ours that has several lines, and is printable already."""

    __slots__ = ()


def on_one_line(text: str) -> str:
    """`text` with everything escaped that is no plain character, line ends and tabs too."""
    return text if text.isprintable() else text.translate(_tables()[0])


def on_lines(text: str) -> str:
    """The same, but lines stay lines; those after the first are indented, so that none looks like the beginning of a record."""
    return text if text.isprintable() else text.translate(_tables()[1]).replace("\n", "\n  ")


def as_word(text: str) -> str:
    """`text` as one word of a shell's line: pasted back it is the same text, and no more than that. What no shell would touch stays as it is.

    What can't be seen is spelled within `$'…'`, as bash, zsh and ksh read it.
    """
    if all(map(_is_seen, text)):
        plain = bool(text) and text[0] != "=" and all(letter.isalnum() or letter in "_@%+=:,./-" for letter in text)
        return text if plain else "'" + text.replace("'", "'\\''") + "'"
    return f"$'{''.join(map(_spelled, text))}'"


def as_argument(text: str) -> str:
    """The same for a command's argument, which must not be taken for an option."""
    return f"-- {as_word(text)}" if text.startswith("-") else as_word(text)


def as_name(text: str) -> str:
    """A name where it stands by itself, in a cell of a table: as it is if all of it can be seen there, else as a word."""
    return text if text == " ".join(text.split()) and all(map(_is_seen, text)) else as_word(text)


def _is_seen(letter: str) -> bool:
    return letter.isprintable() and letter not in _BLANK


def _spelled(letter: str) -> str:
    code = ord(letter)
    if letter in _SHORT or (code < 0x7F and letter.isprintable()):
        return _SHORT.get(letter, letter)
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:  # the latter is a byte of an argument that was no UTF-8
        return f"\\x{code & 0xFF:02x}"
    return letter if _is_seen(letter) else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(value: object) -> str:
    """How a wrong value begins when it is shown, for messages: some have a `repr` that raises, an int of five thousand digits for one."""
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001 - whatever a stranger's `__repr__` does: the message matters
        return f"something of type {type(value).__name__} that can't be shown"


def json_line(value: Any) -> str:
    """`value` as JSON on one line, whose strings mean what they meant, spelled with nothing but plain characters.

    What is no JSON is given as text; what UTF-8 can't say is escaped for good.
    """
    import msgspec  # noqa: PLC0415 - `import trioworkers` should not wait for it

    try:
        text = msgspec.json.encode(value, enc_hook=as_text).decode()
    except (UnicodeEncodeError, RecursionError, OverflowError, ValueError, TypeError):
        text = msgspec.json.encode(_plain(value)).decode()
    return text if text.isprintable() else text.translate(_tables()[2])


def as_text(value: object) -> str:
    """Any value on one line; it can't raise."""
    try:
        return on_one_line(str(value))
    except Exception:  # noqa: BLE001 - somebody else's class; that it can't be shown is all there is to say
        return f"<{type(value).__name__} that can't be shown>"


def _plain(value: Any, depth: int = 0) -> Any:
    """For what msgspec refuses: lone surrogates, keys that are no text, what is nested without end."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else as_text(value)
    if isinstance(value, dict) and depth < 20:
        return {as_text(key): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple) and depth < 20:
        return [_plain(each, depth + 1) for each in value]
    return as_text(value) if depth < 20 else "…"
