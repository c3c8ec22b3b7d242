"""No two things that may be called as they are have one key; what would be ambiguous is refused where it is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers import App, ConfigurationError
from trioworkers.settings import Settings
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import Keys, check_sent_to, hides_a_queue, is_queue_name

SEGMENTS = st.lists(st.sampled_from(["a", "b", "queue", "inprogress", "tw", "q"]), min_size=1, max_size=4).map(":".join)
OTHERS = ["a:b", "b", "q:a", "q", "b:queue:c", "a:queue:b", "q:b:inprogress"]


def usable_process_id(text: str) -> bool:
    try:
        Settings(process_id=text)
    except ConfigurationError:
        return False
    return True


def keys_of(namespace: str, queue: str, process_id: str) -> dict[str, object]:
    """Key → what it is, for all that is built from these names."""
    keys = Keys(namespace)
    found: dict[str, object] = {}
    if is_queue_name(queue) and not hides_a_queue(namespace):
        found[keys.queue(queue)] = ("queue", namespace, queue)
        if usable_process_id(process_id):
            found[keys.in_progress(queue, process_id)] = ("in progress", namespace, queue, process_id)
            found[keys.holds(queue, process_id)] = ("holds", namespace, queue, process_id)
    return found


NAMES = st.tuples(st.one_of(st.just(""), SEGMENTS), SEGMENTS, SEGMENTS)


@given(NAMES, NAMES)
def test_one_key_is_one_thing(one: tuple[str, str, str], other: tuple[str, str, str]):
    first, second = keys_of(*one), keys_of(*other)
    assert all(first[key] == second[key] for key in first.keys() & second.keys())


def test_the_named_pairs_were_one_key():
    keys = Keys()
    assert keys.in_progress("q", "a:b") == keys.in_progress("q:a", "b")
    assert Keys("a").queue("b:queue:c") == Keys("a:queue:b").queue("c")
    assert keys.queue("q:b:inprogress") == keys.in_progress("q", "b")


@pytest.mark.parametrize("process_id", ["a:b", ":", "b:"])
def test_process_id_with_a_colon_is_refused(process_id: str):
    with pytest.raises(ConfigurationError, match="letters, digits or _"):
        App(process_id=process_id)


@pytest.mark.parametrize("namespace", ["queue", "a:queue", "a:queue:b", "queue:b"])
def test_namespace_that_is_a_queues_key_is_refused(namespace: str):
    with pytest.raises(ConfigurationError, match="`queue` can't be a part of it"):
        App(namespace=namespace)
    with pytest.raises(ConfigurationError, match="`queue` can't be a part of it"):
        dialect_named(f"resque:{namespace}")
    assert App(namespace="queues:a")


def test_queue_that_is_an_in_progress_list_is_refused():
    with pytest.raises(ConfigurationError):
        App().queue("q:b:inprogress")
    assert "is no queue" in check_sent_to("q:b:inprogress")
    assert check_sent_to("q:inprogress:b") == ""
