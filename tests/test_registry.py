"""Nothing of ours is in Redis that the registry doesn't list: names in the code and its Lua are read, and keys that a busy worker leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import trioworkers
from trioworkers import registry
from trioworkers.registry.__main__ import page
from trioworkers.wire.keys import Keys
from trioworkers.wire.resque import ResqueKeys

PACKAGE = Path(trioworkers.__file__).parent
SOURCES = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".lua") and path.parent.name != "registry"]
OWN_KEY = re.compile(r"\btw:([a-z_]+)|\bown \.\. '([a-z_]+)|\bown\}([a-z_]+)")
"""As literals, and as they are made of what all begin with."""
NO_KEY = {"tombstone"}  # what lies in a list for the time of one script


def keys_in(text: str) -> Iterator[str]:
    yield from ("".join(groups) for groups in OWN_KEY.findall(text))


def test_every_key_in_the_code_is_listed():
    listed = {key.name.split(":")[1] for key in registry.KEYS} | NO_KEY
    found = {(name, path.name) for path in SOURCES for name in keys_in(path.read_text())}
    assert {(name, path) for name, path in found if name not in listed} == set()
    assert listed - {name for name, _ in found} == set(), "listed, and nobody writes it"


def test_every_field_in_the_code_is_listed():
    listed = {field.name for field in registry.FIELDS}
    found = {(name, path.name) for path in SOURCES for name in re.findall(r"\btw_[a-z_]*[a-z]", path.read_text())}
    assert {(name, path) for name, path in found if name not in listed} == set()
    assert listed - {name for name, _ in found} == set(), "listed, and nobody writes it"


def test_a_new_name_would_be_seen():
    assert list(keys_in('self._own(f"tw:shelf:{name}")')) == ["shelf"]
    assert list(keys_in("redis.call('GET', own .. 'shelf:' .. name)")) == ["shelf"]
    assert list(keys_in('f"{self.own}shelf:{name}"')) == ["shelf"]


@pytest.mark.parametrize("keys", [Keys(), Keys("prod"), ResqueKeys("resque", "prod")], ids=str)
def test_every_key_that_keys_names_is_listed_with_its_namespace(keys: Keys):
    """Made by calling all of `Keys`, with names for its parameters."""
    made = [name for name in dir(type(keys)) if not name.startswith("_")]
    ours = []
    for name in made:
        value = getattr(keys, name)
        if callable(value):
            count = value.__code__.co_argcount - 1
            if "at" in value.__code__.co_varnames[: count + 1]:
                continue  # Sidekiq's metrics
            value = value(*["x"] * count)
        ours += [each for each in (value if isinstance(value, tuple) else (value,)) if "tw:" in str(each)]
    assert len(ours) >= 10
    patterns = re.compile("|".join(key.pattern for key in registry.KEYS))
    for key in ours:
        namespace, _, rest = key.partition("tw:")
        assert namespace in (f"{keys.worker_namespace}:" if keys.worker_namespace else "", f"{keys.namespace}:")
        assert key == keys.own or patterns.fullmatch(f"tw:{rest}")


def test_page_is_current():
    path = PACKAGE.parent / "docs" / "in-redis.md"
    assert path.read_text() == page(), "make docs"


def test_names_are_listed_once():
    names = [each.name for each in (*registry.KEYS, *registry.FIELDS)]
    assert len(names) == len(set(names))
