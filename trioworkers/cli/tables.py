"""Rows for people or for scripts: a table on a terminal, lines with tabs in a pipe, JSON lines if asked.

JSON lines, not one array: what is long streams, and `head`, `grep` and `jq` take it as it comes. Payloads are other people's
bytes: control characters never reach the terminal.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import attrs

from trioworkers.printable import json_line, on_one_line

TABLE_ROWS = 500
LONGEST_S = 86_400e9
"""A score may be any number: what is longer than a billion days is no time, and fills the screen with digits."""
_SPACES = re.compile(r"[\t\n\r]+")


@attrs.frozen
class Column:
    """One column: how people see a row there. `least`: what it keeps when room is short; `wide`: cut before others."""

    title: str
    show: Callable[[Mapping[str, Any]], str]
    wide: bool = False
    right: bool = False
    least: int | None = None


_shard: ContextVar[str] = ContextVar("trioworkers_shard", default="")


@contextmanager
def in_shard(name: str) -> Iterator[None]:
    """What is written within the block was found in that shard, and says so."""
    token = _shard.set(name)
    try:
        yield
    finally:
        _shard.reset(token)


def is_in_shard() -> bool:
    """Whether what is looked at is one of several Redises."""
    return bool(_shard.get())


class Rows:
    """Writes rows as they come: on a terminal when they are `end`ed, at the latest after some hundred."""

    def __init__(self, columns: Sequence[Column], *, as_json: bool) -> None:
        shard = _shard.get()
        self._columns = [Column("shard", lambda _: shard), *columns] if shard else columns
        self._as_json = as_json
        self._for_people = not as_json and sys.stdout.isatty()
        self._collected: list[list[str]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """One row. In JSON it is written whole, else as the columns say."""
        if self._as_json:
            write_json(row)
            return
        cells = [clean(column.show(row)) for column in self._columns]
        if not self._for_people:
            sys.stdout.write("\t".join(cells) + "\n")
            return
        self._collected.append(cells)
        if len(self._collected) == TABLE_ROWS:
            self.end()

    def end(self) -> None:
        """Write what is collected."""
        if self._collected:
            from rich.cells import cell_len  # noqa: PLC0415 - dear to import
            from rich.console import Console  # noqa: PLC0415 - dear to import
            from rich.table import Table  # noqa: PLC0415 - as above
            from rich.text import Text  # noqa: PLC0415 - as above

            table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
            rows = [[column.title for column in self._columns], *self._collected]
            naturals = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
            console = Console(highlight=False)
            widths = fit(self._columns, naturals, console.width)
            console.width = max(console.width, sum(widths) + len(widths) - 1)  # else rich cuts what must be whole
            for column, width in zip(self._columns, widths, strict=True):
                justify: Any = "right" if column.right else "left"
                table.add_column(column.title, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
            for cells in self._collected:
                table.add_row(*(Text(cell) for cell in cells))
            console.print(table)
            self._collected.clear()
        sys.stdout.flush()


def fit(columns: Sequence[Column], naturals: Sequence[int], room: int) -> Sequence[int]:
    """Each column's width. What is wide gives way first, then what has a `least`; the others stay as they are."""
    widths = list(naturals)
    for wide in (True, False):
        for place, column in sorted(enumerate(columns), key=lambda each: -naturals[each[0]]):
            excess = sum(widths) + len(widths) - 1 - room
            least = 12 if column.wide else column.least
            if excess > 0 and column.wide == wide and least is not None:
                widths[place] = max(min(widths[place], least), widths[place] - excess)
    return widths


def write_json(value: Any) -> None:
    """One line of JSON."""
    if (shard := _shard.get()) and isinstance(value, Mapping):
        value = {"shard": shard, **value}
    sys.stdout.write(json_line(value) + "\n")


def write_paragraphs(paragraphs: Sequence[str]) -> None:
    """Texts of several lines, indented."""
    for paragraph in paragraphs:
        for line in paragraph.split("\n"):
            sys.stdout.write(f"  {clean(line)}\n")


def in_lines(text: str, indent: int) -> Sequence[str]:
    """`text` on a terminal, `indent` columns from its edge, broken between words; in a pipe it is one line."""
    if not sys.stdout.isatty():
        return [text]
    room = max(shutil.get_terminal_size().columns - indent, 20)
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def say(text: str) -> None:
    """A line for people."""
    sys.stdout.write(f"{_where()}{clean(text)}\n")
    sys.stdout.flush()


def remark(text: str) -> None:
    """A line for people beside the rows."""
    sys.stderr.write(f"{_where()}{clean(text)}\n")


def _where() -> str:
    shard = _shard.get()
    return f"{shard}: " if shard else ""


def clean(text: str) -> str:
    """`text` on one line, without anything that a terminal would obey."""
    return on_one_line(_SPACES.sub(" ", text))


def short(text: str, length: int) -> str:
    """At most so many characters of `text`."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def duration(seconds: float | None) -> str:
    """`0.3s`, `42s`, `5m03s`, `3h07m`, `12d`; `-` for None and what is longer than LONGEST_S."""
    if seconds is None or not abs(seconds) <= LONGEST_S:
        return "-"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest_s = divmod(int(seconds), 60)
    hours, rest_m = divmod(minutes, 60)
    if minutes == 0:
        return f"{rest_s}s"
    if hours == 0:
        return f"{minutes}m{rest_s:02d}s"
    return f"{hours}h{rest_m:02d}m" if hours < 48 else f"{hours // 24}d"


def moment(epoch_s: float) -> str:
    """Local time, to the second, with its distance from UTC: whoever is sent it may live elsewhere."""
    try:
        return datetime.fromtimestamp(epoch_s).astimezone().isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):
        return "?"


def number(value: float) -> str:
    """With thousands apart."""
    return f"{value:,}"
