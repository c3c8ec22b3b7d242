"""What features cost: that each can be asked for, and that the page has room for the tables. Nothing is measured here."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from priced_app import Bench
from prices import BEGIN, END, PAGE, PER_JOB, PER_SECOND, Spent, written

EXTRAS = {"tracing": "opentelemetry.sdk", "metrics": "prometheus_client", "dashboard": "jinja2"}
REDIS, SECOND = "redis://127.0.0.1:1/0", "redis://127.0.0.1:2/0"


@pytest.mark.parametrize("feature", ["plain", *PER_JOB, *PER_SECOND])
def test_each_feature_makes_an_app_that_could_run(feature: str) -> None:
    if feature in EXTRAS:
        pytest.importorskip(EXTRAS[feature])
    bench = Bench(Namespace(feature=feature, redis=REDIS, second=SECOND, jobs=1))
    bench.app.check()
    assert bench.handler.job(1, "two").job_class == "Empty"


def test_least_is_of_each_figure_by_itself() -> None:
    least = Spent.least([Spent(3.0, 1.0, 9.0), Spent(2.0, 2.0, 10.0)])
    assert (least, least.beyond(Spent(0.5, 1.0, 1.0))) == (Spent(2.0, 1.0, 9.0), Spent(1.5, 0.0, 8.0))


def test_page_keeps_all_but_what_is_between_the_marks() -> None:
    page = PAGE.read_text()
    assert (page.count(BEGIN), page.count(END)) == (1, 1)
    runs = {
        name: [Spent(float(number), 1.0, 2.0)] for number, name in enumerate(("plain", "idle", *PER_JOB, *PER_SECOND))
    }
    again = written(page, 4, runs)
    assert again.split(BEGIN)[0] == page.split(BEGIN)[0]
    assert again.split(END)[1] == page.split(END)[1]
    assert all(words in again for words in (*PER_JOB.values(), *PER_SECOND.values()))
    assert "| one line of `ctx.log` | +11.0 |" in again
    assert "| the same, with `keep_log=100` | +1.0 |" in again
