"""With a namespace that is one pair of braces all keys that a busy worker touches are in one slot of a cluster. The arithmetic is public; no cluster is needed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import Server, Worker, wait_for

import trioworkers
from trioworkers import ConfigurationError
from trioworkers.settings import settings

TAG = "{shop}"


def slot(key: str) -> int:
    """CRC16 (XMODEM) of what stands between the first braces, modulo 16384: Redis Cluster Specification, "Keys hash tags"."""
    begin = key.find("{")
    end = key.find("}", begin + 1)
    hashed = key[begin + 1 : end] if begin >= 0 and end > begin + 1 else key
    crc = 0
    for byte in hashed.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
    return (crc & 0xFFFF) % 16384


def test_arithmetic_is_that_of_the_specification():
    assert slot("123456789") == 0x31C3 % 16384
    assert slot("{user1000}.following") == slot("{user1000}.followers") == slot("user1000")
    assert slot("foo{}{bar}") == slot("foo{}{bar}")
    assert slot("{shop}:queue:q") == slot("shop")


def test_all_keys_of_a_busy_worker_are_in_one_slot(run_worker: Callable[..., Worker], server: Server, tmp_path: Path):
    options = ("--namespace", TAG, "--process-id", "w1", "--lease", "2", "--shutdown-timeout", "1")
    worker = run_worker(server.url, "limits_app:app", *options, RUNS=str(tmp_path / "runs")).wait_started()
    payload = '{"class":"%s","args":[%s],"queue":"q","jid":"%s","tw_keep":60}'
    for number in range(40):
        server.command("LPUSH", f"{TAG}:queue:q", payload % ("Limited", "0.05", f"j{number}"))
    server.command("ZADD", f"{TAG}:schedule", time.time() + 1, payload % ("Limited", "0.05", "later"))
    server.command("LPUSH", f"{TAG}:queue:q", payload % ("Nobody", "", "retried"), "no job")
    seen: set[str] = set()

    def all_done() -> bool:
        keys = server.command("KEYS", "*")
        assert isinstance(keys, list)
        seen.update(keys)
        return not server.command("EXISTS", f"{TAG}:tw:parked") and bool(
            server.command("EXISTS", f"{TAG}:tw:result:later")
        )

    wait_for(all_done, "all have run")
    worker.kill()
    assert {slot(key) for key in seen} == {slot("shop")}
    assert {
        f"{TAG}:tw:parked",
        f"{TAG}:tw:permits:crm",
        f"{TAG}:retry",
        f"{TAG}:dead",
        f"{TAG}:queue:q:w1:inprogress",
    } <= seen


def test_no_script_names_a_key_that_is_not_given_to_it():
    """Only what is built from KEYS, ARGV or values that came in with them: `redis.call('GET', 'foo')` would be in a slot of its own."""
    folder = Path(trioworkers.__file__).parent / "broker"
    literal = re.compile(r"redis\.p?call\(\s*'(?!MEMORY')[A-Z]+'\s*,\s*['\"]")
    named = {path.name for path in folder.rglob("*.lua") if literal.search(path.read_text())}
    assert named == set()


@pytest.mark.parametrize("namespace", ["{shop}", "{shop:eu}", "shop", ""])
def test_namespace_may_be_a_hash_tag(namespace: str):
    assert settings({"namespace": namespace}, {}).namespace == namespace


@pytest.mark.parametrize("namespace", ["{}", "{a}b", "a{b}", "{a}{b}", "{{a}}", "{a", "a}", "{a b}"])
def test_braces_that_are_no_hash_tag_around_all_of_it_are_refused(namespace: str):
    with pytest.raises(ConfigurationError, match="braces"):
        settings({"namespace": namespace}, {})
