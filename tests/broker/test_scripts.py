"""Each script lies beside the one who calls it, who names its keys and arguments; by these names the Lua reads them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from harness import all_scripts
from servers import Server

from trioworkers import broker
from trioworkers.broker.contract import LARGE_BYTES
from trioworkers.broker.holds import fake_limits
from trioworkers.broker.reclaim import CRASHES_KEPT_S
from trioworkers.broker.redis.scripts import Script
from trioworkers.exits import DEAD_S
from trioworkers.sending import TOKEN_S

ROOM = Path(broker.__file__).parent
SCRIPTS = all_scripts()
each = pytest.mark.parametrize("declared", SCRIPTS, ids=lambda declared: declared.removeprefix("trioworkers.broker."))


def lua_of(declared: str) -> Path:
    module = declared.removeprefix("trioworkers.broker.").rpartition(".")[0].replace(".", "/")
    return (ROOM / module).with_name(f"{SCRIPTS[declared].name.replace(' ', '_')}.lua")


def test_every_file_is_declared_in_one_module_beside_it():
    declared = {(lua_of(name), name.rpartition(".")[0]) for name in SCRIPTS}
    files = [path for path in ROOM.rglob("*.lua") if path.parent.name != "preludes"]
    assert sorted(path for path, _ in declared) == sorted(files)


def test_every_prelude_is_used():
    shared = {path.name: path.read_text() for path in (ROOM / "preludes").glob("*.lua")}
    assert [name for name, text in shared.items() if not any(text in script.text for script in SCRIPTS.values())] == []


@each
def test_lua_reads_keys_and_arguments_by_their_names(declared: str):
    script, text = SCRIPTS[declared], lua_of(declared).read_text()
    code = re.sub(r"--[^\n]*", "", text)
    assert re.findall(r"(?:KEYS|ARGV)\[\d+\]", code) == []
    names = [name for name in (*script.keys, *script.args) if not name.startswith("*")]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert [name for name in names if not re.search(rf"\b{name}\b", code) and name != "payload_prefix"] == []


@each
def test_names_hide_nothing_of_a_prelude(declared: str):
    script = SCRIPTS[declared]
    shared = script.text.partition(f"local {(*script.keys, *script.args)[0].replace('*', 'before_')} = ")[0]
    known = {
        name.strip()
        for line in re.findall(r"^local (?:function )?([\w, ]+)", shared, re.MULTILINE)
        for name in line.split(",")
    }
    assert known.isdisjoint((*script.keys, *script.args))


@each
def test_redis_takes_it(declared: str, shared_server: Server):
    script: Script = SCRIPTS[declared]
    assert shared_server.command("SCRIPT", "LOAD", script.text) == script.sha


@pytest.mark.parametrize(
    ("name", "number", "pattern"),
    [
        ("enqueue.lua", TOKEN_S, r"'SET', token, .*'EX', (\d+)\)"),
        ("preludes/fetching.lua", LARGE_BYTES, r"#payloads\[i\] > (\d+)"),
        ("preludes/send.lua", DEAD_S, r"'ZREMRANGEBYSCORE', dead, '-inf', t - (\d+)"),
        ("preludes/batches.lua", DEAD_S, r"local DEAD_S, OVER_S = (\d+),"),
        ("reclaim.lua", CRASHES_KEPT_S, r"'EXPIRE', crashes, (\d+)"),
        ("reclaim_huge.lua", CRASHES_KEPT_S, r"'EXPIRE', crashes, (\d+)"),
        ("preludes/limits.lua", fake_limits.RESERVED_S, r"local RESERVED_S, .* = (\d+), \d+, \d+, \d+"),
        ("preludes/limits.lua", fake_limits.PATIENT_AFTER_S, r"local PATIENT_AFTER_S, LONGEST_KEPT_S = (\d+),"),
        ("preludes/limits.lua", fake_limits.LONGEST_KEPT_S, r"local PATIENT_AFTER_S, LONGEST_KEPT_S = \d+, (\d+)"),
    ],
)
def test_lua_has_the_numbers_that_python_counts_on(name: str, number: float, pattern: str):
    assert [float(found) for found in re.findall(pattern, (ROOM / name).read_text())] == [number]
