"""What a job remembers of its calls fits into its payload, whatever they are named and however many they are."""

from __future__ import annotations

import json
from collections import Counter

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from trioworkers import App, CallFailed, Context, FanOutError, Job, testing
from trioworkers.engine.runner import WHAT_A_WAIT_ADDS_BYTES, WHAT_WE_ADD_BYTES
from trioworkers.errors import CallFailed as Failed
from trioworkers.http.idempotency import MAX_KEY, idempotency_key
from trioworkers.jobs.progress import MAX_CALLS, MAX_PROGRESS_BYTES, Progress
from trioworkers.outcome import Bury, Retry
from trioworkers.retry import decide
from trioworkers.settings import Settings
from trioworkers.wire.decode import decode
from trioworkers.wire.digests import unpack
from trioworkers.wire.encode import amend, encode

BARE = b'{"class":"A","args":[],"jid":"j"}'
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
long_names = st.builds(lambda name, times: name * times, names, st.sampled_from([1, 1, 1, 300, 3000]))


def written(progress: Progress, payload: bytes = BARE) -> bytes:
    return amend(payload, progress.fields())


def read(payload: bytes) -> Progress:
    return Progress.of(decode(payload, "q"), trio.Event)


@settings(max_examples=60)
@given(
    done=st.lists(long_names, unique=True, max_size=60),
    failed=st.dictionaries(long_names, st.text(max_size=2000), max_size=60),
    others=st.lists(names, max_size=5),
)
def test_what_was_remembered_is_known_again_and_has_a_bound(done: list[str], failed: dict[str, str], others: list[str]):
    failed = {name: reason for name, reason in failed.items() if name not in done}
    payload = BARE
    for half in (0, 1):  # over two attempts
        progress = read(payload)
        for name in done[half::2]:
            assert progress.finished(name)
            assert not progress.finished(name)
        for name in list(failed)[half::2]:
            progress.gave_up(Failed(name, failed[name], permanent=True))
        payload = written(progress, payload)
        assert len(payload) - len(BARE) <= MAX_PROGRESS_BYTES
    progress = read(payload)
    assert progress.fields() == {}
    assert [name for name in done if not progress.is_done(name)] == []
    assert [name for name in failed if progress.reason_of_failure(name) is None] == []
    for name in set(others) - set(done):
        assert not progress.is_done(name)
        assert name in failed or progress.reason_of_failure(name) is None


@pytest.mark.parametrize("name", ["{}", "\x01{}", "😀" * 50 + "{}", "https://api.example/" + "x" * 2000 + "/{}"])
def test_as_many_calls_as_there_may_be_fit(name: str):
    progress = read(BARE)
    for number in range(MAX_CALLS):
        progress.expect(name.format(number))
        if number % 2:
            progress.finished(name.format(number))
        else:
            progress.gave_up(Failed(name.format(number), "\x01" * 5000, permanent=True))
    payload = written(progress)
    assert len(payload) - len(BARE) <= MAX_PROGRESS_BYTES
    assert MAX_PROGRESS_BYTES <= WHAT_WE_ADD_BYTES - (128 << 10)  # what a failure tells needs some, too
    again = read(payload)
    assert not again.expect(name.format(7))
    for full in (progress, again):
        with pytest.raises(ValueError, match="25,000 calls at most"):
            full.expect("one more")


@pytest.mark.parametrize(
    "nonsense",
    [1, None, [], {}, "no base64", "QUJD", "====", "QUJDREVGR0g", "QUJDREVGR0g=\n", {"a": 1}, ["x", 5], "é"],
)
def test_nonsense_in_our_fields_is_no_progress(nonsense: object):
    fields = ("tw_done", "tw_failed", "tw_done_packed", "tw_failed_packed")
    payload = json.dumps({"class": "A", "args": [], **dict.fromkeys(fields, nonsense)}).encode("utf-8", "surrogatepass")
    progress = read(payload)
    progress.finished("a")
    assert read(written(progress, payload)).is_done("a")


def test_digests_of_strangers_are_bounded_by_their_payload():
    assert unpack("QUJDREVGR0g=" * 1) == b"ABCDEFGH"
    assert read(json.dumps({"class": "A", "args": [], "tw_done_packed": "A" * 1_000_000}).encode()).done == []


# ── through a worker ───────────────────────────────────────────────────────────────────────────────────────────────────

CALLS = 3000


class Service:
    """Answers by the name of a call: some fail for good, one for a moment."""

    def __init__(self) -> None:
        self.came: Counter[str] = Counter()

    def answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path[1:]
        self.came[name] += 1
        if name == "0" and self.came[name] == 1:
            return httpx.Response(503, headers={"Retry-After": "5"})
        return httpx.Response(404 if name.endswith("7") else 200)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("sender", ["ours", "Ruby's, and a bit larger"])
async def test_job_as_large_as_may_be_makes_thousands_of_calls_once(
    autojump_clock: object, checkpoint: bool, sender: str
):
    service, app = Service(), App()

    @app.handler("q")
    async def calls(ctx: Context, data: str) -> None:
        async with ctx.fan_out(checkpoint=checkpoint) as fan:
            for number in range(CALLS):
                fan.post(f"{number} {'ü' * 100}", f"http://h/{number}")

    def job(filler: int) -> Job:
        return Job("q", "calls", ("x" * filler,), retry=5, backtrace=True)

    limit = Settings().max_payload_bytes + (0 if sender == "ours" else WHAT_A_WAIT_ADDS_BYTES)
    largest = job(limit - len(encode(job(0), 1_700_000_000.123456)) - 8)  # what it says of the time may be longer
    async with testing.run(app, http=httpx.AsyncClient(transport=httpx.MockTransport(service.answer))) as test:
        if sender == "ours":
            await test.enqueue(largest)
        else:
            test._broker.queues["q"] = [encode(largest, 1_700_000_000.0)]
            await test.enqueue(Job("q", "calls", ()))  # wakes it up; has no argument, and is buried
        with trio.fail_after(3600):
            await test.drain(retries=True)
        errors = [json.loads(payload)["error_class"] for payload in test.dead_payloads]
    assert "trioworkers.FanOutError" in errors
    assert "trioworkers.BadPayload" not in errors
    assert {name: times for name, times in service.came.items() if times != 1} == {"0": 2}
    assert len(service.came) == CALLS


@pytest.mark.parametrize("backtrace", [False, True])
@pytest.mark.parametrize("letter", ["x", "\x01", "😀", "\ud800", '"', "é"])
def test_what_is_told_of_a_failure_has_a_bound_in_bytes(letter: str, backtrace: bool):
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise type("E" * 50_000, (Exception,), {})(letter * 100_000)

    payload = json.dumps({"class": "A", "args": [], "jid": "j", "queue": "q", "backtrace": backtrace}).encode()
    with pytest.raises(Exception, match=r".") as raised:
        deep(50)
    outcome = decide(decode(payload, "q"), payload, raised.value, now_s=1.7e9, jitter=0.0)
    assert isinstance(outcome, Retry)
    assert len(outcome.payload) - len(payload) <= WHAT_WE_ADD_BYTES - MAX_PROGRESS_BYTES


# ── very many failures ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_call_worth_a_retry_among_thousands_that_are_not_has_the_job_retried(autojump_clock: object):
    app = App()

    @app.handler("q")
    async def calls(ctx: Context) -> None:
        async def fail(permanent: bool) -> None:
            raise CallFailed("", "no", permanent=permanent)

        async with ctx.fan_out() as fan:
            for number in range(CALLS):
                fan.start(str(number), fail, number != CALLS - 1)

    async with testing.run(app) as test:
        await test.enqueue(calls.job())
        await test.drain()
        assert (len(test.retries), len(test.dead)) == (1, 0)


def test_error_of_thousands_of_calls_is_short():
    text = str(FanOutError([CallFailed(str(number), "no", permanent=True) for number in range(5000)], 5000))
    assert text.startswith("5000 of 5000 calls failed\n  0: no (permanent")
    assert text.endswith("\n  … and 4900 more")
    assert len(text) < 10_000


def test_key_of_any_name_has_a_length_that_services_take():
    long = ["x" * 5000, "é" * 100, "\x01" * 100, "x" * 300 + "1", "x" * 300 + "2"]
    keys = [idempotency_key("1" * 24, name) for name in long]
    assert len(set(keys)) == len(keys)
    assert all(len(key) <= MAX_KEY and key.startswith("1" * 24 + ":") for key in keys)
    assert idempotency_key("j" * 1000, "a") != idempotency_key("j" * 1000, "b")
    assert idempotency_key("j", "a" * 253) == f"j:{'a' * 253}"


def test_buried_job_forgets_which_calls_failed_so_that_somebody_may_mend_them():
    progress = read(BARE)
    for number in range(MAX_CALLS):
        progress.gave_up(Failed(f"{number}", "no", permanent=True))
    payload = written(progress)
    outcome = decide(decode(payload, "q"), payload, CallFailed("a", "no", permanent=True), now_s=1.7e9, jitter=0.0)
    assert isinstance(outcome, Bury)
    assert b"tw_failed" not in outcome.payload
