"""The benchmarks' own pure parts: figures to ratios, tables, picture and page. Nothing is measured here."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.contestants import CONTESTANTS, PEERS
from benchmarks.plot import svg
from benchmarks.report import BEGIN, END, between_markers, number, page, text_table
from benchmarks.results import Results, Spread
from benchmarks.work import WORKS, Work


def work(name: str) -> Work:
    return next(work for work in WORKS if work.name == name)


@pytest.fixture
def results(capsys: pytest.CaptureFixture[str]) -> Results:
    """Two rounds: we run twice and three times as many jobs as arq, and take twice as long to start one."""
    results = Results(machine={"Processor": "one"}, versions={"arq": "arq 0.28"})
    for number_, (ours, theirs) in enumerate(((20_000, 10_000), (30_000, 10_000))):
        results.add(work("empty"), "trioworkers", number_, {"rate": ours, "cpu": 30.0})
        results.add(work("empty"), "arq", number_, {"rate": theirs, "cpu": 300.0})
    results.add(work("latency"), "trioworkers", 0, {"p50": 2.0, "p99": 4.0})
    results.add(work("latency"), "arq", 0, {"p50": 1.0, "p99": 40.0})
    results.add(work("wait"), "arq", 0, RuntimeError("no | go"))
    results.skip(work("wait"), next(who for who in CONTESTANTS if who.name == "rq"), "one job at a time")
    capsys.readouterr()
    return results


def test_ratios_compare_within_a_round_and_say_who_is_better(results: Results) -> None:
    assert results.advantage("empty", "arq", "rate", lower_is_better=False) == Spread(2.5, 2.0, 3.0)
    assert results.advantage("latency", "arq", "p50", lower_is_better=True) == Spread(0.5, 0.5, 0.5)
    assert results.advantage("wait", "arq", "rate", lower_is_better=False) is None


def test_rounds_that_failed_are_not_compared_with_others(results: Results) -> None:
    for number_, theirs in ((1, 10.0), (2, 30.0)):
        results.add(work("bulk"), "streaq", number_, {"rate": theirs})
    for number_, ours in ((0, 1.0), (2, 90.0)):
        results.add(work("bulk"), "trioworkers", number_, {"rate": ours})
    assert results.advantage("bulk", "streaq", "rate", lower_is_better=False) == Spread(3.0, 3.0, 3.0)


def test_who_failed_once_gets_another_chance_and_no_third(results: Results) -> None:
    assert results.takes_part(work("wait"), "arq")
    results.add(work("wait"), "arq", 1, RuntimeError("again"))
    assert not results.takes_part(work("wait"), "arq")
    assert not results.takes_part(work("wait"), "rq")


def test_page_names_what_we_lose_on_and_what_failed(results: Results) -> None:
    text = page(results, "plot.svg")
    assert "- enqueue to start, idle worker, ms, median: arq 2.00." in text
    assert "2.50 (2.00–3.00)" in text
    assert "- wait, arq: no / go" in text


def test_every_row_of_a_table_has_as_many_cells_as_its_head(results: Results) -> None:
    tables = [part.splitlines() for part in page(results, "plot.svg").split("\n\n") if part.startswith("|")]
    assert len(tables) >= 4
    for table in tables:
        assert len({line.count("|") for line in table}) == 1, table[0]


def test_only_what_is_between_the_markers_is_replaced() -> None:
    before = f"above\n{BEGIN}\nold\n{END}\nbelow\n"
    once = between_markers(before, "new")
    assert once == f"above\n{BEGIN}\n\nnew\n\n{END}\nbelow\n"
    assert between_markers(once, "new") == once
    with pytest.raises(ValueError, match="no place"):
        between_markers("no markers", "new")


def test_the_documentation_has_a_place_for_the_results() -> None:
    text = (PEERS.parent.parent / "docs" / "performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1


def test_picture_is_well_formed_and_shows_everyone_measured(results: Results) -> None:
    texts = [node.text for node in ET.fromstring(svg(results)).iter() if node.tag.endswith("text")]
    assert texts.count("arq") == texts.count("trioworkers") == 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [(41234.0, "41,200"), (24.13, "24.1"), (0.0514, "0.051"), (0.0, "0"), (999.6, "1,000"), (float("inf"), "too long")],
)
def test_numbers_show_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_results_survive_their_file(results: Results, tmp_path) -> None:
    results.add(work("hold1000"), "arq", 0, {"memory": 40.0, "stop": float("inf")})
    results.save(tmp_path / "new" / "results.json")
    assert "Infinity" not in (tmp_path / "new" / "results.json").read_text()
    assert Results.load(tmp_path / "new" / "results.json") == results
    assert "enqueue to start" in text_table(results)


@pytest.mark.parametrize("who", CONTESTANTS, ids=lambda who: who.name)
def test_contestants_have_their_files_and_a_command_for_all_they_can(who) -> None:
    assert who.requirements is None or (PEERS / f"{who.requirements}.txt").exists()
    assert all(all(isinstance(word, str) for word in who.worker(work)) for work in WORKS if who.why_not(work) is None)
    assert set(who.cannot) <= {work.name for work in WORKS}
