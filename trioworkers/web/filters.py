"""What people type to find jobs: words, and the filters of the commands. Pure.

A word is looked for in class, jid, error, tags and arguments. `~` means "contains" here, and is no regular expression: one that somebody else's
text makes endless would hold up whoever runs beside this page.
"""

from __future__ import annotations

import re
import shlex

from trioworkers.cli.where import Test, Where, parse_where
from trioworkers.errors import WrongUsage
from trioworkers.wire.entry import Entry

MOST_CHARACTERS = 1000
_FILTER = re.compile(r"(\w+)\s*(!=|!~|>=|<=|=|~|>|<)(.*)", re.DOTALL)


def parse_filter(text: str) -> Where:
    """Raises WrongUsage that says what is wrong."""
    if len(text) > MOST_CHARACTERS:
        raise WrongUsage(f"a filter has at most {MOST_CHARACTERS} characters")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise WrongUsage(f"{text!r}: {error}; a quotation mark wants a second one") from None
    return Where([test for word in words for test in _tests(word)])


def _tests(word: str) -> list[Test]:
    found = _FILTER.fullmatch(word)
    if found is None:
        return [_contains(word.casefold())]
    name, op, value = found.groups()
    try:
        return list(parse_where([f"{name}{op}{re.escape(value) if '~' in op else value}"]).tests)
    except WrongUsage as error:
        raise WrongUsage(str(error).removeprefix("--where ")) from None


def _contains(word: str) -> Test:
    raw = word.encode()

    def test(entry: Entry, _: float) -> bool:
        texts = (entry.job_class, entry.jid, entry.error_class, entry.error_message, *entry.tags)
        return any(word in text.casefold() for text in texts) or raw in entry.args.lower()

    return test


def exactly(**fields: str) -> str:
    """A filter by these fields, as somebody would type it."""
    return " ".join(shlex.quote(f"{name}={value}") for name, value in fields.items() if value)
