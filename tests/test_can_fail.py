"""Each of our tests can fail: it asserts something, itself or by a helper, or waits for what it wants for no longer than a bound.

A test that only runs its subject passes whatever that does, as long as nothing is raised. Where just that is meant, it says what came instead.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CHECKS = {
    "raises",
    "warns",
    "fail",
    "fail_after",
    "wait_for",
    "check_returncode",
    "wait_started",
    "RaisesGroup",
    "run_state_machine_as_test",
}
GIVES = {"command", "session", "start", "kill", "owner", "get", "run", "work", "texts", "pool", "make", "cancel"}
"""Names of helpers that assert what they need themselves, rather than what a test is about."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


@cache
def known_of(function: Function) -> tuple[frozenset[str], bool]:
    """What it calls, by the last part of each name (`check` of `fleet.check()`), and whether it asserts something itself.

    That is an assertion, an exception that it raises, or a program that has to succeed.
    """
    names, itself = set(), False
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            names.add(node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
            itself = itself or any(
                each.arg == "check" and getattr(each.value, "value", False) for each in node.keywords
            )
        itself = itself or isinstance(node, ast.Assert | ast.Raise)
    return frozenset(names), itself or bool(names & CHECKS)


def called(function: Function) -> frozenset[str]:
    return known_of(function)[0]


def asserts(function: Function) -> bool:
    return known_of(function)[1]


def helpers(trees: list[ast.Module]) -> set[str]:
    """The names of those that assert something, themselves or by one another."""
    every = [each for tree in trees for each in functions(tree) if not each.name.startswith("test_")]
    found = {each.name for each in every if asserts(each)} - GIVES
    while more := {each.name for each in every if called(each) & found} - found - GIVES:
        found |= more
    return found


def without_a_check(trees: dict[str, ast.Module]) -> list[str]:
    known = helpers([*trees.values()])
    return [
        f"{name}::{each.name}"
        for name, tree in trees.items()
        for each in functions(tree)
        if each.name.startswith("test_") and not asserts(each) and not called(each) & known
    ]


def test_each_test_can_fail():
    files = {str(path.relative_to(TESTS)): path for path in TESTS.rglob("*.py") if "node_modules" not in path.parts}
    try:
        assert without_a_check({name: ast.parse(path.read_text()) for name, path in files.items()}) == []
    finally:
        known_of.cache_clear()  # trees of all our tests


@pytest.mark.parametrize(
    ("body", "can_fail"),
    [
        ("encode(job)", False),
        ("server.command('PING')", False),
        ("assert encode(job)", True),
        ("with pytest.raises(ValueError): encode(job)", True),
        ("fleet.check()", True),
        ("subprocess.run(command, check=True)", True),
        ("subprocess.run(command, check=False)", False),
    ],
)
def test_one_that_can_not_would_be_found(body: str, can_fail: bool):
    text = f"def test_it():\n    {body}\n\ndef check(self):\n    assert self.found\n\ndef command(self):\n    assert self.up\n"
    assert without_a_check({"test_it.py": ast.parse(text)}) == ([] if can_fail else ["test_it.py::test_it"])
