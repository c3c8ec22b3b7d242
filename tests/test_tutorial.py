"""docs/tutorial.md, typed from its first line to its last, with real processes."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import wait_for
from typist import Typist


@pytest.fixture
def typist(tmp_path: Path) -> Iterator[Typist]:
    (tmp_path / "home").mkdir()
    typist = Typist(tmp_path / "home", tmp_path / "desk")
    yield typist
    for each in typist.running:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def test_tutorial_goes_as_it_is_printed(typist: Typist):
    typist.work_through("tutorial.md")
    worker, _, web = typist.running
    seen = page(typist, "/")
    assert "default" in seen
    assert worker.log.read_text().count("all pages are in") == 1
    assert [each.process.poll() for each in typist.running] == [None, None, None]
    status, _, of_web = typist.leave()  # http.server says nothing of Ctrl-C
    assert (status, of_web) == (0, 0)
    assert "Traceback" not in web.log.read_text()


def page(typist: Typist, path: str) -> str:
    """A page of the dashboard, as soon as it is there."""
    address, found = f"http://127.0.0.1:{typist.ports['8090']}{path}", []

    def is_there() -> bool:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                found.append(answer.read().decode())
        except OSError:
            return False
        return True

    wait_for(is_there, "the dashboard answers")
    return found[0]
