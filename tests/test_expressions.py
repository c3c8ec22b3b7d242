"""No regular expression of ours is worse than linear: each is found, and fed the texts on which one that isn't would take hours.

Python's `re` backtracks, holds the interpreter meanwhile, and can't be interrupted. What two repeats that may follow each other share, or what a
search begins anew at each place, costs the square of the text; so the texts are long runs of what an expression itself is made of.
"""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from trioworkers.registry import may_stay
from trioworkers.wire.resque_registry import Entry

ROOT = Path(__file__).parent.parent
LENGTH = 100_000
OPERATORS_OWN = {("trioworkers/cli/where.py", "re.compile(value, re.IGNORECASE)")}
"""`--where 'args ~ …'`: the expression of who types it."""

MADE = {"trioworkers/registry/keys.py": may_stay}
"""Those that are made when they are wanted, each the only one in its file."""

FEED = """
import ast, re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({most_s}, {most_s}))
pattern, flags, used, texts = ast.literal_eval(sys.stdin.read())
found = re.compile(pattern, flags)
for pump, before, after in texts:
    text = before + pump * ({length} // len(pump)) + after
    for method in used:
        found.sub(text[:0], text) if method == "sub" else getattr(found, method)(text)
"""


def expressions() -> Iterator[tuple[str, str | bytes, int, tuple[str, ...]]]:
    """`(where, pattern, flags, used)` of each in the package; `used`: the methods by which it is."""
    for file in sorted([*ROOT.glob("trioworkers/**/*.py"), *ROOT.glob("handlers/**/*.py")]):
        name = str(file.relative_to(ROOT))
        if name.startswith("trioworkers/examples/"):
            continue
        tree = ast.parse(file.read_text())
        constants: dict[str, Any] = {"re": re}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                _evaluated(node.value, constants, node.targets[0].id)
        for call in _calls(tree):
            source = ast.unparse(call)
            if (name, source) in OPERATORS_OWN or _is_compiled(call.args[0], constants):
                continue
            try:
                pattern = eval(ast.unparse(call.args[0]), constants)
            except NameError:
                if name not in MADE:
                    pytest.fail(f"{name}:{call.lineno}: {source}: say its expression as a constant")
                pattern = MADE[name]().pattern
            yield f"{name}:{call.lineno}", pattern, _flags(call), _used(tree, call)


METHODS = ("search", "match", "fullmatch", "sub", "split", "findall", "finditer")


def _used(tree: ast.AST, call: ast.Call) -> tuple[str, ...]:
    function = ast.unparse(call.func).partition(".")[2]
    if function != "compile":
        return (function,)
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and node.value is call
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
    }
    used |= {
        ast.unparse(node.func).partition(".")[2]
        for node in _calls(tree)
        if isinstance(node.args[0], ast.Name) and node.args[0].id in names
    }
    return tuple(sorted(used & set(METHODS))) or METHODS  # public: used elsewhere, in whatever way


def _flags(call: ast.Call) -> int:
    said = [getattr(re, node.attr, 0) for node in ast.walk(call) if isinstance(node, ast.Attribute)]
    return sum({int(flag) for flag in said if isinstance(flag, re.RegexFlag)})


def _evaluated(value: ast.expr, constants: dict[str, Any], name: str) -> None:
    try:
        constants[name] = eval(ast.unparse(value), dict(constants))
    except Exception:  # noqa: BLE001 - no constant
        return


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.fullmatch(r"re\.(?!escape|purge)\w+", ast.unparse(node.func)):
            yield node
        assert not (isinstance(node, ast.ImportFrom) and node.module == "re"), "import re itself: then it is found"
        assert not (
            isinstance(node, ast.Import) and any(a.name in ("fnmatch", "regex") or a.asname == "re" for a in node.names)
        )


def _is_compiled(argument: ast.expr, constants: dict[str, Any]) -> bool:
    """`re.split(_SPAN, …)`: it is found where it is compiled."""
    return isinstance(argument, ast.Name) and isinstance(constants.get(argument.id), re.Pattern)


def pumps(pattern: str | bytes, flags: int) -> list[str]:
    """Runs of what the expression is made of: each of its characters, and each pair that stands side by side in it."""
    letters = list(_letters(parser.parse(pattern, flags)))
    pairs = {a + b for a, b in pairwise(letters)}
    return sorted({*letters[:60], *sorted(pairs)[:60], "".join(letters[:40]), "a", "1", " ", "\n", "/", "//"} - {""})


_OF_CATEGORY = {c.CATEGORY_DIGIT: "1", c.CATEGORY_SPACE: " ", c.CATEGORY_WORD: "a"}
_LETTER: dict[Any, Callable[[Any], str]] = {
    c.LITERAL: chr,
    c.NOT_LITERAL: lambda value: chr(value + 1),
    c.RANGE: lambda value: chr(value[0]),
    c.CATEGORY: lambda value: _OF_CATEGORY.get(value, "x"),
    c.ANY: lambda _: "x",
}
_INSIDE: dict[Any, Callable[[Any], Any]] = {
    c.IN: lambda value: [value],
    c.BRANCH: lambda value: value[1],
    c.MAX_REPEAT: lambda value: [value[2]],
    c.MIN_REPEAT: lambda value: [value[2]],
    c.SUBPATTERN: lambda value: [value[-1]],
    c.ASSERT: lambda value: [value[1]],
    c.ASSERT_NOT: lambda value: [value[1]],
}


def _letters(items: Any) -> Iterator[str]:
    for op, value in items:
        if op in _LETTER:
            yield _LETTER[op](value)
        for part in _INSIDE.get(op, lambda _: [])(value):
            yield from _letters(part)


def fed(pattern: str | bytes, flags: int, used: tuple[str, ...], *, most_s: int) -> bool:
    """Feed an expression its worst texts; whether that took no more than so many seconds of a core, however busy the machine is."""
    runs = pumps(pattern, flags)
    texts: list[Any] = [
        (run, before, after) for run in runs for before in ("", " ", *runs[-1:]) for after in ("", "\0")
    ]
    if isinstance(pattern, bytes):
        texts = [tuple(part.encode("latin-1", "replace") for part in text) for text in texts]
    program = FEED.replace("{length}", str(LENGTH)).replace("{most_s}", str(most_s))
    work = repr((pattern, flags, used, texts))
    status = subprocess.run([sys.executable, "-c", program], input=work, text=True, check=False).returncode
    assert status in (0, -signal.SIGKILL, -signal.SIGXCPU)
    return status == 0


FOUND = sorted(set(expressions()), key=repr)


def test_all_of_them_are_found():
    assert len(FOUND) > 20
    assert any(where.startswith("trioworkers/redis_url.py") for where, *_ in FOUND)


@pytest.mark.parametrize(
    ("where", "pattern", "flags", "used"), FOUND, ids=lambda value: value if "py:" in str(value) else ""
)
def test_expression_is_linear(where: str, pattern: str | bytes, flags: int, used: tuple[str, ...]):
    assert fed(pattern, flags, used, most_s=20)


@pytest.mark.parametrize(
    ("pattern", "flags", "used"),
    [
        (r" - at `\$\.?(.*)`$", 0, "sub"),  # what made msgspec's messages readable
        (r"(?<=//).*@", 0, "sub"),  # what hid passwords
        (r"^\s*-?\s*terminationGracePeriodSeconds:\s*(\S+)", re.MULTILINE, "findall"),
        (r".*a.*a.*b", re.DOTALL, "fullmatch"),  # a stranger's pattern of queues
        (rb"(x+)+y", 0, "match"),
    ],
)
def test_expression_that_is_not_would_be_noticed(pattern: str | bytes, flags: int, used: str):
    assert not fed(pattern, int(flags), (used,), most_s=1)


@pytest.mark.parametrize(
    ("pattern", "queue", "fits"),
    [
        ("mail", "mail", True),
        ("mail", "mails", False),
        ("*", "mail", True),
        ("*", "", True),
        ("m*l", "mail", True),
        ("m*l", "ml", True),
        ("ma*ail", "mail", False),  # the two would overlap
        ("*a*i*", "mail", True),
        ("*i*a*", "mail", False),
        ("a.c", "abc", False),
        ("*a*a*", "ba", False),
        ("*" + "a*" * 100 + "b", "a" * 128, False),
        ("a*" * 100, "a" * 128, True),
        ("*\n", "a\n", True),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_stars_of_a_strangers_queues_stand_for_any_letters(pattern: str, queue: str, fits: bool):
    assert Entry("Resque", "x", [pattern], None).fetches(queue) is fits


def test_no_pattern_of_a_script_is_tried_to_its_end_from_each_letter():
    """Lua tries one that isn't anchored from every position: such must begin with a letter, or what it then runs through is run through each time."""
    calls = [
        (script.name, line)
        for script in sorted((ROOT / "trioworkers").rglob("*.lua"))
        for line in script.read_text().splitlines()
        if re.search(r"string\.g?(match|find|sub)\(", line)
    ]
    assert len(calls) > 20
    repeats = re.compile(r", '(\.|%\w|\[[^\]]+\])[*+-]")
    assert [each for each in calls if repeats.search(each[1])] == []
    assert repeats.search("""string.match(text, '.*"jid"')""")
