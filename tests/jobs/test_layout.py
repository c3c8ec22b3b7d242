"""Where queues and jobs of an App with several Redises lie, and what is refused as it would have to lie in several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from weakref import WeakSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers import App, BadJob, Batch, Client, ConfigurationError, FleetLimit, Job, Shard, Unique, chosen_redis
from trioworkers.jobs.layout import Layout
from trioworkers.shards import chosen
from trioworkers.wire.lock import Lock

A, B, C = (Shard(f"redis://127.0.0.1:{port}/0") for port in (7101, 7102, 7103))
NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True)


@pytest.fixture(autouse=True)
def _no_redis_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("REDIS_URL", raising=False)


def app_with(*queues: str, shards: tuple[str, ...] = ("a", "b"), url: str | None = None) -> App:
    app = App(url, shards={"a": A, "b": B, "c": C})
    for queue in queues:
        app.queue(queue, shards=list(shards))
    return app


def layout_of(app: App) -> Layout:
    layout = app.layout
    assert layout is not None
    return layout


async def nothing(customer: int = 0) -> None:
    """What a handler does here."""


# ── which one it is ────────────────────────────────────────────────────────────────────────────────────────────────────


@given(names=NAMES, key=st.text())
def test_order_of_the_list_does_not_matter(names: list[str], key: str):
    assert chosen(names, key) == chosen(sorted(names), key)


@given(names=NAMES, new=st.sampled_from("xyz"), key=st.text())
def test_new_shard_takes_its_share_and_moves_nothing_else(names: list[str], new: str, key: str):
    assert chosen([*names, new], key) in (chosen(names, key), new)


def test_jobs_are_spread_evenly_and_always_in_the_same_way():
    layout = layout_of(app_with("track"))
    jobs = [Job("track", "X", jid=f"{number:024x}") for number in range(4000)]
    where = [layout.place(job) for job in jobs]
    assert [layout.place(job) for job in jobs] == where
    assert set(where) == {"a", "b"}
    assert all(abs(count - 2000) < 200 for count in Counter(where).values())


def test_queue_without_shards_lies_in_the_own_redis():
    app = app_with("track", url="redis://127.0.0.1:7100/0")
    app.handler("mail", "X")(nothing)
    layout = layout_of(app)
    assert layout.names == ("", "a", "b", "c")
    assert layout.place(Job("mail", "X")) == ""
    assert layout.place(Job("of_ruby", "X")) == ""


def test_own_redis_is_none_of_them_if_nothing_lies_there():
    assert layout_of(app_with("track")).names == ("a", "b", "c")


def test_own_redis_that_is_named_is_drained(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:7100/0")
    assert layout_of(app_with("track")).names == ("", "a", "b", "c")


def test_queue_of_which_nothing_was_said_is_refused_without_an_own_redis():
    with pytest.raises(BadJob, match=r"queue 'mail' is in no shard.*app\.queue\('mail', shards="):
        layout_of(app_with("track")).place(Job("mail", "X"))


def test_app_without_shards_has_no_layout():
    assert App().layout is None


# ── what stays together ────────────────────────────────────────────────────────────────────────────────────────────────


def placed(app: App, jobs: list[Job]) -> set[str]:
    return {layout_of(app).place(job) for job in jobs}


def test_jobs_with_one_lock_are_in_one_shard():
    app = app_with("track")
    handler = app.handler("track", "Sync", unique=Unique(by="customer"))(nothing)
    for customer in range(20):
        jobs = [handler.job(customer) for _ in range(5)]
        without_lock = [Job("track", "Sync", [customer]) for _ in range(5)]
        assert len(placed(app, jobs + without_lock)) == 1
    assert placed(app, [handler.job(customer) for customer in range(50)]) == {"a", "b"}


def test_jobs_under_one_limit_are_in_one_shard():
    app = app_with("track", "other")
    app.handler("track", "Sync", limit=FleetLimit("crm", concurrency=2))(nothing)
    app.handler("other", "More", limit=FleetLimit("crm", concurrency=2))(nothing)
    assert len(placed(app, [Job(queue, name) for queue, name in (("track", "Sync"), ("other", "More")) * 20])) == 1


def test_limit_that_goes_by_an_argument_is_whole_for_each_of_its_values():
    app = app_with("track")
    app.handler("track", "Sync", limit=FleetLimit("crm", concurrency=2, by="customer"))(nothing)
    for customer in range(20):
        assert len(placed(app, [Job("track", "Sync", [customer]) for _ in range(5)])) == 1
    assert placed(app, [Job("track", "Sync", [customer]) for customer in range(50)]) == {"a", "b"}


def test_job_that_can_not_be_keyed_goes_by_its_jid():
    app = app_with("track")
    app.handler("track", "Sync", limit=FleetLimit("crm", concurrency=2, by="customer"))(nothing)
    assert placed(app, [Job("track", "Sync", [[number]]) for number in range(50)]) == {"a", "b"}


def test_periodic_job_has_one_shard():
    app = app_with("track")
    for number in range(8):
        app.periodic("@hourly", name=f"n{number}")(app.handler("track", f"Sync{number}")(nothing))
    declared = {name: {each.name for each in app.at(name).periodic_jobs} for name in ("a", "b", "c")}
    assert declared["a"] | declared["b"] == {each.name for each in app.periodic_jobs}
    assert not declared["a"] & declared["b"]
    assert declared["c"] == set()


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────────────


def limits_in_two_shards(app: App) -> None:
    app.queue("track", shards=["a"])
    app.queue("mail", shards=["b"])
    app.handler("track", "X", limit=FleetLimit("crm", concurrency=1))(nothing)
    app.handler("mail", "Y", limit=FleetLimit("crm", concurrency=1))(nothing)


def locks_in_two_shards(app: App) -> None:
    app.queue("track", shards=["a"])
    app.queue("mail", shards=["b"])
    app.handler("track", "X", unique=Unique())(nothing)
    app.handler("mail", "X", unique=Unique())(nothing)


def limit_of_a_spread_queue(app: App) -> None:
    app.queue("track", shards=["a", "b"], limit=FleetLimit(concurrency=3))
    app.handler("track", "X")(nothing)


def limit_of_two_queues_in_two_shards(app: App) -> None:
    app.queue("track", shards=["a"], limit=FleetLimit("io", concurrency=3))
    app.queue("mail", shards=["b"], limit=FleetLimit("io", concurrency=3))
    app.handler("track", "X")(nothing)
    app.handler("mail", "X")(nothing)


def two_limits(app: App) -> None:
    app.queue("track", shards=["a", "b"])
    app.handler("track", "X", limit=[FleetLimit("one", concurrency=1), FleetLimit("two", concurrency=1)])(nothing)


def limit_and_lock(app: App) -> None:
    app.queue("track", shards=["a", "b"])
    app.handler("track", "X", unique=Unique(), limit=FleetLimit("one", concurrency=1, by="customer"))(nothing)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (limits_in_two_shards, "limit 'crm' is also in .* give both queues the same shards, or the limit another name"),
        (locks_in_two_shards, "unique class 'X' is also in .* give both queues the same shards"),
        (limit_of_a_spread_queue, "queue 'track': its limit would lie in .* give the queue one shard"),
        (limit_of_two_queues_in_two_shards, "limit 'io' is also queue 'track'"),
        (two_limits, "limit 'one' and limit 'two' would send one job to different shards; give the queue one shard"),
        (limit_and_lock, "limit 'one' and its unique= would send one job to different shards"),
    ],
)
def test_what_would_lie_in_several_shards_is_refused_by_worker_and_client(declare: Callable[[App], None], says: str):
    app = App(shards={"a": A, "b": B})
    declare(app)
    for use in (app.check, app.client, app.sync_client, app.asyncio_client):
        with pytest.raises(ConfigurationError, match=says) as raised:
            use()
        assert "\n" not in str(raised.value)


def test_lock_beside_a_limit_for_all_is_fine():
    app = app_with("track")
    handler = app.handler("track", "X", unique=Unique(), limit=FleetLimit("one", concurrency=1))(nothing)
    assert len(placed(app, [handler.job(customer) for customer in range(20)])) == 1


@pytest.mark.parametrize(
    ("shards", "says"),
    [
        ("a", "shards is a dict of Shard"),
        ({}, "shards is a dict of Shard"),
        ({"a": "redis://h"}, r"shard 'a' is a Shard\(url, namespace=…\)"),
        ({"a b": A}, "a shard's name has at most 64 letters"),
        ({"": A}, "a shard's name"),
        ({"a": Shard("embedded:")}, "give it embedded:DIRECTORY"),
    ],
)
def test_bad_shards_are_refused_where_they_are_declared(shards: object, says: str):
    with pytest.raises(ConfigurationError, match=says):
        App(shards=shards)  # type: ignore[arg-type]


def test_bad_url_of_a_shard_is_refused_without_its_password():
    with pytest.raises(ConfigurationError, match="redis_url") as raised:
        Shard("http://user:secret@host")
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(Shard("redis://user:secret@host"))


@pytest.mark.parametrize(
    ("shards", "says"),
    [
        (["d"], r"queue 'q': there is no shard 'd'; the App has a, b, c"),
        ([], "shards is a list of names"),
        ("a", "shards is a list of names"),
        (["a", "a"], "names one shard twice"),
        ([A], "there is no shard"),
    ],
)
def test_bad_shards_of_a_queue_are_refused(shards: object, says: str):
    with pytest.raises(ConfigurationError, match=says):
        app_with().queue("q", shards=shards)  # type: ignore[arg-type]


def test_shards_of_a_queue_in_an_app_that_has_none():
    with pytest.raises(ConfigurationError, match=r"the App has none: App\(shards="):
        App().queue("q", shards=["a"])


@pytest.mark.parametrize(
    "other", ["redis://localhost:7101/0", "redis://127.0.0.1:7101", "redis://user:word@127.0.0.1:7101/0"]
)
def test_two_shards_in_one_place_are_refused(other: str):
    app = App(shards={"a": A, "b": Shard(other)})
    app.queue("track", shards=["a", "b"])
    with pytest.raises(
        ConfigurationError, match="shard 'a' and shard 'b' are the same database and namespace"
    ) as raised:
        app.client()
    assert "word" not in str(raised.value)


def test_own_redis_that_is_a_shard_as_well_is_refused():
    app = app_with("track", url=A.url)
    with pytest.raises(ConfigurationError, match="the App's own Redis and shard 'a' are the same"):
        app.client()


def test_one_database_with_two_namespaces_is_two_shards():
    app = App(shards={"a": Shard(A.url, namespace="{a}"), "b": Shard(A.url, namespace="{b}")})
    app.queue("track", shards=["a", "b"])
    assert layout_of(app).names == ("a", "b")
    assert [app.at(name).settings.namespace for name in "ab"] == ["{a}", "{b}"]


def test_cluster_wants_braces_of_each_shard():
    app = App(shards={"a": A, "b": Shard("redis+cluster://h:7000", namespace="shop")})
    app.queue("track", shards=["a", "b"])
    app.handler("track", "X")(nothing)
    with pytest.raises(ConfigurationError, match="one pair of braces"):
        app.check()


def test_client_that_names_no_redis_is_refused_beside_shards(monkeypatch: pytest.MonkeyPatch):
    app = app_with("track")
    monkeypatch.setattr(chosen_redis, "APPS", WeakSet([app]))  # tests that ran before left theirs
    with pytest.raises(ConfigurationError, match=r"this program's App its shards.*app\.client\(\)"):
        Client()
    del app


# ── batches ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_batch_lies_where_all_of_it_can():
    app = app_with("track")
    app.queue("mail", shards=["b", "c"])
    layout = layout_of(app)
    assert layout.together([Job("track", "X"), Job("mail", "Y")]) == ("b",)
    with pytest.raises(BadJob, match="a batch lies in one shard, with all its jobs and callbacks"):
        layout.together([Job("track", "X"), Job("mail", "Y")], "a")


def test_batch_lies_where_its_unique_members_have_their_locks():
    """Elsewhere nobody would find them, and there could be two of one."""
    app = app_with("track")
    layout = layout_of(app)
    members = [Job("track", "X", lock=Lock(f"key {number}")) for number in range(20)]
    places = {layout.place(member) for member in members}
    assert len(places) > 1
    assert {layout.together([member]) for member in members} == {(place,) for place in places}
    with pytest.raises(BadJob, match="its lock is in"):
        layout.together(members)


def test_batch_that_would_lie_in_two_shards_is_refused():
    app = App(shards={"a": A, "b": B})
    app.queue("track", shards=["a"])
    app.queue("mail", shards=["b"])
    batch = Batch(on_success=Job("mail", "Y"))
    batch.add(Job("track", "X", runs_here=True))
    layout = layout_of(app)
    with pytest.raises(BadJob, match="batch lies in one shard"):
        layout.together([*batch.members(), Job("mail", "Y")])
