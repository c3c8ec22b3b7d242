"""Against the real Sidekiq Web and Ruby's own API: they show us, and each of their buttons does to our jobs what it says."""

from __future__ import annotations

import json
import re
import time
from html import unescape
from typing import Any

import pytest
from browser import Form
from office import Office, needs_web
from servers import Worker, wait_for

pytestmark = needs_web


def test_every_button_of_the_retries(office: Office):
    jids = {text: office.push("flaky", text) for text in "abcdefgh"}
    office.await_failed("retry", *"abcdefgh")
    page = office.browser.look("/retries")
    assert "RuntimeError: broken: a" in page
    press = office.browser.press

    processed = office.ruby("Sidekiq::Stats.new.processed")
    press("/retries", "retry", tick=[jids["a"]])  # not mended: it fails again, as its first failure
    wait_for(lambda: office.ruby("Sidekiq::Stats.new.processed") == processed + 1, "a ran once more")
    office.await_failed("retry", *"abcdefgh")
    assert {json.loads(member)["retry_count"] for member in office.members("retry")} == {0}

    office.mend()
    press("/retries", "retry", tick=[jids["b"], jids["c"]])
    office.await_ran("b", "c")
    press("/retries", "delete", tick=[jids["d"]])
    press("/retries", "kill", tick=[jids["e"]])
    assert (office.first_args("retry"), office.first_args("dead")) == ([*"afgh"], ["e"])
    press(office.page_of("retries", jids["f"]), "retry")
    press(office.page_of("retries", jids["g"]), "delete")
    office.await_ran(*"bcf")
    press("/retries", "retry", to="all/retry")
    office.await_ran(*"abcfh")

    office.unmend()
    for button, texts in (("kill", "ij"), ("delete", "kl")):
        for text in texts:
            office.push("flaky", text)
        office.await_failed("retry", *texts)
        press("/retries", button, to=f"all/{button}")
        assert office.members("retry") == []
    assert office.first_args("dead") == [*"eij"]
    assert office.ran() == [*"abcfh"]


def test_every_button_of_the_schedule(office: Office):
    later = time.time() + 3600
    jids = {text: office.push("note", text, at=later, x={"y": [1, None]}) for text in "abcde"}
    press = office.browser.press
    press("/scheduled", "add_to_queue", tick=[jids["a"], jids["b"]])
    press("/scheduled", "delete", tick=[jids["c"]])
    press(office.page_of("scheduled", jids["d"]), "add_to_queue")
    press(office.page_of("scheduled", jids["e"]), "delete")
    office.await_ran(*"abd")
    assert office.members("schedule") == []


def test_every_button_of_the_dead(office: Office):
    jids = {text: office.push("flaky", text, retry=0) for text in "abcdef"}
    office.server.command("LPUSH", "queue:web", b"no job \xff")  # unreadable: buried as it came
    wait_for(lambda: len(office.members("dead")) == 7, "all are dead")
    assert "RuntimeError: broken: a" in office.browser.look("/morgue")
    office.server.command("ZREM", "dead", b"no job \xff")
    office.mend()
    press = office.browser.press
    press("/morgue", "retry", tick=[jids["a"]])
    press("/morgue", "delete", tick=[jids["b"]])
    press(office.page_of("morgue", jids["c"]), "retry")
    press(office.page_of("morgue", jids["d"]), "delete")
    office.await_ran("a", "c")
    assert office.first_args("dead") == ["e", "f"]
    press("/morgue", "retry", to="all/retry")
    office.await_ran(*"acef")

    office.unmend()
    office.push("flaky", "g", retry=0)
    office.await_failed("dead", "g")
    press("/morgue", "delete", to="all/delete")
    assert office.members("dead") == []


def test_jobs_that_died_together_can_be_retried_one_by_one(office: Office):
    # Buried by one script at one moment: the page tells them apart by their score, and one without jid spoils its neighbours.
    texts = [f"t{n}" for n in range(20)]
    payloads = [
        json.dumps({"class": "flaky", "queue": "web", "args": [text], "retry": 0, "jid": f"{n:024x}"})
        for n, text in enumerate(texts)
    ]
    office.server.command("LPUSH", "queue:web", *payloads)
    office.await_failed("dead", *texts)
    scores = office.server.command("ZRANGE", "dead", 0, -1, "WITHSCORES")
    assert isinstance(scores, list)
    assert len(set(scores[1::2])) == len(texts)
    office.mend()
    office.browser.press("/morgue", "retry", to="all/retry")
    office.await_ran(*texts)


def test_every_button_of_the_queues(office: Office):
    office.await_running(office.push("hold", "first", queue="narrow"))
    for text in "abc":
        office.push("note", text, queue="narrow")
    page = office.browser.look("/queues")
    assert 'href="/queues/narrow"' in page
    assert office.browser.look("/queues/narrow").count("note") >= 3
    # The newest is at the top of the page.
    office.browser.press("/queues/narrow", "delete")
    assert office.server.command("LLEN", "queue:narrow") == 2
    office.release("first")
    office.await_ran("a", "b", "first")

    office.await_running(office.push("hold", "second", queue="narrow"))
    office.push("note", "d", queue="narrow")
    office.browser.press("/queues", "delete", to="queues/narrow")
    assert office.server.command("EXISTS", "queue:narrow") == 0
    office.release("second")
    office.push("note", "e", queue="narrow")
    office.await_ran("a", "b", "e", "first", "second")


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("html", "<b>&amp;"),
        ("long", "é" * 9_000),
        ("surrogate", "a?z"),
        ("nul", "\0\x1b[1m☃\u2028"),
    ],
)
def test_errors_show_with_their_backtrace(office: Office, kind: str, shown: str):
    jid = office.push("odd", kind, backtrace=True)
    wait_for(lambda: len(office.members("retry")) == 1, "it failed")
    office.browser.look("/retries")
    page = unescape(office.browser.look(office.page_of("retries", jid)))
    assert "<code>ValueError</code>" in page
    assert shown in page
    assert re.search(r"web_app\.py:\d+:in `inner'<br/>.*web_app\.py:\d+:in `odd'<br/>", page)


def test_backtraces_are_as_long_as_the_job_says_and_a_group_shows_its_root(office: Office):
    jid = office.push("odd", "html", backtrace=1)
    wait_for(lambda: len(office.members("retry")) == 1, "it failed")
    page = unescape(office.browser.look(office.page_of("retries", jid)))
    assert "in `inner'" in page
    assert "in `odd'" not in page
    office.browser.press("/retries", "delete", to="all/delete")

    jid = office.push("group", backtrace=True, retry=0)
    wait_for(lambda: len(office.members("dead")) == 1, "it failed")
    page = unescape(office.browser.look(office.page_of("morgue", jid)))
    assert "<code>ValueError</code>" in page
    assert re.search(r"in `inner'<br/>.*in `odd'<br/>.*in `group'", page)


def test_the_pages_show_a_worker_and_what_it_runs(office: Office):
    jid = office.push("hold", "x<y>", tags=["vip"])
    wait_for(lambda: jid in office.browser.look("/busy"), "the running job shows")
    page = office.browser.look("/busy")
    (worker,) = [worker for worker in office.workers if worker.process.poll() is None]
    assert f":{worker.process.pid}" in page
    assert "trioworkers" in page
    assert "x&lt;y&gt;" in page
    assert ">vip<" in page
    stats = json.loads(office.browser.look("/stats"))["sidekiq"]
    assert (stats["busy"], stats["processes"]) == (1, 1)
    failed, processed = stats["failed"], stats["processed"]
    office.release("x<y>")
    office.push("flaky", "z", retry=0)
    wait_for(lambda: json.loads(office.browser.look("/stats"))["sidekiq"]["processed"] == processed + 2, "both count")
    assert json.loads(office.browser.look("/stats"))["sidekiq"]["failed"] == failed + 1
    assert str(processed + 2) in office.browser.look("/")
    history = office.ruby("h = Sidekiq::Stats::History.new(2); [h.processed.values, h.failed.values]")
    assert [sum(days) for days in history] == [processed + 2, failed + 1]


def test_the_metrics_page_of_newer_versions_shows_how_jobs_ended(office: Office):
    office.push("note", "a")
    office.push("flaky", "b", retry=0)
    office.await_ran("a")
    wait_for(lambda: office.server.command("KEYS", "h|note-*"), "a heartbeat brings it")
    if office.ruby("Sidekiq::VERSION.to_i < 7"):
        return  # it has no such page: what newer ones read is in tests/engine/test_job_metrics.py
    totals = "Sidekiq::Metrics::Query.new.top_jobs.job_results.transform_values { |each| each.totals }"
    wait_for(lambda: office.ruby(totals).get("flaky", {}).get("f"), "the failure shows, too")
    assert office.ruby(totals)["note"]["p"] >= 1
    assert ">note<" in office.browser.look("/metrics")
    assert "note" in office.browser.look("/metrics/note")
    buckets = "Sidekiq::Metrics::Query.new.for_job('note').job_results['note'].hist.values.flatten.sum"
    assert office.ruby(buckets) == office.ruby(totals)["note"]["p"]


def test_a_form_that_no_page_offered_is_refused(office: Office):
    office.push("flaky", "a")
    office.await_failed("retry", "a")
    assert office.browser.forge("/retries/all/delete", ("delete", "1")) == 403
    assert office.first_args("retry") == ["a"]


def test_every_verb_of_rubys_api(office: Office):
    ruby = office.ruby
    running = office.push("hold", "r")
    office.await_running(running)
    assert ruby("works") == [[ruby("Sidekiq::ProcessSet.new.first.identity"), "web", running]]
    record = "p = Sidekiq::ProcessSet.new.first; "
    assert ruby(record + "[p.queues, p.labels, p.stopping?]") == [["narrow", "web"], ["trioworkers"], False]
    assert ruby(record + "%w[concurrency busy].map { |f| p[f] }") == [21, 1]
    assert ruby("s = Sidekiq::ProcessSet.new; [s.total_concurrency, s.total_rss_in_kb > 10_000, s.leader]") == [
        21,
        True,
        "",
    ]
    assert ruby(record + "p['beat'] > Time.now.to_f - 60 && p['rtt_us'] > 0")
    ruby(record + "p.dump_threads; 0")
    worker = office.workers[-1]
    wait_for(lambda: running in worker.text.split("running jobs:")[-1], "it logs where its jobs are")

    for text in "abc":
        office.push("note", text, queue="narrow2")
    queue = "q = Sidekiq::Queue.new('narrow2'); "
    assert ruby(queue + "[q.size, q.map { |job| job.args[0] }, q.latency < 60]") == [3, ["c", "b", "a"], True]
    assert ruby("Sidekiq::Queue.all.map(&:name)")[-2:] == ["narrow2", "web"]
    ruby(queue + "q.detect { |job| job.args == ['b'] }.delete")
    assert ruby(queue + "n = q.size; q.clear; [n, Sidekiq::Stats.new.queues.keys.include?('narrow2')]") == [2, False]

    later = time.time() + 3600
    scheduled = [office.push("note", text, at=later) for text in ("s1", "s2", "s3")]
    schedule = "s = Sidekiq::ScheduledSet.new; "
    ruby(schedule + f"s.find_job('{scheduled[0]}').add_to_queue; 0")
    ruby(schedule + f"s.find_job('{scheduled[1]}').reschedule(Time.now.to_f - 1); 0")
    ruby(schedule + f"s.find_job('{scheduled[2]}').delete; 0")
    office.await_ran("s1", "s2")

    for text in ("try1", "try2", "try3", "try4"):
        office.push("flaky", text)
    office.await_failed("retry", "try1", "try2", "try3", "try4")
    failed = "s = Sidekiq::RetrySet.new; "
    assert ruby(failed + "s.scan('try2').map { |job| job.args[0] }") == ["try2"]
    assert ruby(failed + "s.map { |job| job['error_message'] }.sort")[0] == "broken: try1"
    ruby(failed + "s.scan('\"try4\"').each(&:kill); 0")
    ruby(failed + "s.scan('\"try3\"').each(&:delete); 0")
    office.mend()
    ruby(failed + "s.scan('\"try1\"').each(&:retry); 0")
    ruby(failed + "s.retry_all; 0")
    office.await_ran("try1", "try2", "s1", "s2")
    assert ruby("d = Sidekiq::DeadSet.new; [d.size, d.first.args]") == [1, ["try4"]]
    ruby("Sidekiq::DeadSet.new.retry_all; 0")
    office.await_ran("try1", "try2", "try4", "s1", "s2")
    wait_for(lambda: office.in_progress() == 1, "only the held job is unsettled")
    ruby("Sidekiq::Stats.new.reset; 0")
    assert ruby("s = Sidekiq::Stats.new; [s.processed, s.failed]") == [0, 0]
    office.release("r")
    wait_for(lambda: "r" in office.ran(), "the held job ends")


def test_workers_go_quiet_and_stop_one_by_one_and_all(office: Office):
    first = next(worker for worker in office.workers if worker.process.poll() is None)
    second, third = office.start_worker(), office.start_worker()
    states = "Sidekiq::ProcessSet.new(false).map { |p| [p['pid'], p['quiet']] }.to_h"

    def is_quiet() -> set[int]:
        return {int(pid) for pid, quiet in office.ruby(states).items() if quiet == "true"}

    def of(worker: Worker) -> Any:
        def leads(form: Form) -> bool:
            return any(name == "identity" and f":{worker.process.pid}:" in value for name, value in form.hidden)

        return leads

    def of_all(form: Form) -> bool:
        return all(name != "identity" for name, _ in form.hidden)

    for worker in (second, third):
        worker.wait_started()
    office.browser.press("/busy", "quiet", within=of(second))
    wait_for(lambda: is_quiet() == {second.process.pid}, "one is quiet")
    office.push("note", "a")
    office.await_ran("a")
    office.browser.press("/busy", "stop", within=of(second))
    assert second.ended() == 0
    office.browser.press("/busy", "quiet", within=of_all)
    left = {first.process.pid, third.process.pid}
    wait_for(lambda: is_quiet() == left, "all that are left are quiet")
    assert ">quiet<" in office.browser.look("/busy")
    jid = office.push("note", "b")
    office.browser.press("/busy", "stop", within=of_all)
    assert (first.ended(), third.ended()) == (0, 0)
    assert office.ruby("Sidekiq::ProcessSet.new(false).size") == 0
    assert office.ruby("Sidekiq::Queue.new('web').map(&:jid)") == [jid]
    assert office.ran() == ["a"]
