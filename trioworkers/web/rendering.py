"""Templates: whatever they show is escaped twice over, against markup and against what turns or hides text, without their doing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from trioworkers.cli.tables import duration, moment, number, short
from trioworkers.printable import on_one_line
from trioworkers.web.http import address
from trioworkers.wording import counted

_HERE = Path(__file__).parent
_ZERO_WIDTH = {code: f"\\u{code:04x}" for code in (*range(0x200B, 0x200E), *range(0x2060, 0x2065), 0xAD)}


def readable(text: str) -> str:
    """Strangers' text, on one line, with nothing in it that isn't seen."""
    return on_one_line(text).translate(_ZERO_WIDTH)


def _finalize(value: Any) -> Any:
    """Applied to every value that a template shows. What says itself as text, a place with a queue's name in it, is text of strangers, too."""
    if value is None:
        return ""
    return value if isinstance(value, Markup | int | float) else readable(str(value))


def _is_carried(value: object) -> bool:
    return readable(str(value)) == str(value)


def in_fields(values: Iterable[tuple[str, object]]) -> list[tuple[str, object]]:
    """What hidden fields of a form bring back as it is: what is readable. Of the rest they would bring what is shown, and a browser its own kind of line ends."""
    return [(name, value) for name, value in values if _is_carried(value)]


def in_address(values: Iterable[tuple[str, object]]) -> str:
    """The rest, to be put after the address that the form is sent to."""
    rest: dict[str, list[str]] = {}
    for name, value in values:
        if not _is_carried(value):
            rest.setdefault(name, []).append(str(value))
    return address("", "", **rest)


def _lines(text: str) -> Markup:
    """For <pre>: lines stay lines."""
    return Markup("\n").join(escape(readable(line.replace("\t", "    "))) for line in text.splitlines())


STATIC: Mapping[str, tuple[str, bytes]] = {
    name: (content_type, (_HERE / "static" / name).read_bytes())
    for name, content_type in (
        ("style.css", "text/css; charset=utf-8"),
        ("live.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    )
}
"""What pages fetch from us, read once."""

_TEMPLATES = (path.read_bytes() for path in sorted((_HERE / "templates").iterdir()))
VERSION = hashlib.sha256(b"".join([*(body for _, body in STATIC.values()), *_TEMPLATES])).hexdigest()[:10]
"""Part of their addresses, so that browsers may keep them; and how an open page knows that it was made by another version of us."""

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    finalize=_finalize,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(duration=duration, moment=moment, n=number, lines=_lines, short=short)
_ENVIRONMENT.globals.update(counted=counted, version=VERSION, in_fields=in_fields, in_address=in_address)


def render(template: str, values: Mapping[str, Any]) -> str:
    """One template."""
    return _ENVIRONMENT.get_template(template).render(values)
