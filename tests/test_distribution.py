"""A test that ends its process, or hangs: it alone has failed, the others are run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from distribution import TOGETHER
from servers import ROOT

ORDERLY = """
import json, os, pathlib
import pytest

@pytest.fixture(autouse=True)
def _said(request):
    with pathlib.Path("said").open("a") as said:
        said.write(json.dumps([os.environ.get("PYTEST_XDIST_WORKER"), request.node.nodeid]) + "\\n")
"""
DISTRIBUTED = """
from distribution import Distribution

def pytest_xdist_make_scheduler(config, log):
    return Distribution(config, log)
"""


def run(folder: Path, files: dict[str, str], *options: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Tests in a folder of their own, and for each that began its process and name."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done, [json.loads(line) for line in (folder / "said").read_text().splitlines()]


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("ending", [[0, 9], [3, 4], [0, 1, 2, 8]])
def test_those_that_end_their_process_fail_and_all_others_run(tmp_path: Path, processes: int, ending: Sequence[int]):
    tests = "".join(f"def test_{n}(): {'os._exit(1)' if n in ending else 'pass'}\n" for n in range(10))
    files = {"conftest.py": ORDERLY + DISTRIBUTED, "test_it.py": "import os\n" + tests}
    done, said = run(tmp_path, files, "-n", str(processes), "--dist", "loadgroup")
    assert sorted(name for _, name in said) == [f"test_it.py::test_{n}" for n in range(10)], done.stdout
    assert f"{len(ending)} failed" in done.stdout
    assert f"{10 - len(ending)} passed" in done.stdout


LATE = """
from distribution import Distribution

waited = pathlib.Path("waited")

class Late(Distribution):
    def remove_node(self, node):
        for other, units in self.assigned_work.items():
            left = [test for unit in units.values() for test, done in unit.items() if not done]
            if other is not node and left[0].endswith(("test_0", "test_1")):
                other.gateway._io.popen.wait()
                waited.touch()
        return super().remove_node(node)

def pytest_xdist_make_scheduler(config, log):
    return Late(config, log)
"""


def test_what_is_sent_to_a_process_that_has_just_ended_too_is_run_by_another(tmp_path: Path):
    tests = "".join(f"def test_{n}(): {'os._exit(1)' if n < 2 else 'pass'}\n" for n in range(10))
    files = {"conftest.py": ORDERLY + LATE, "test_it.py": "import os\n" + tests}
    done, said = run(tmp_path, files, "-n", "2", "--dist", "loadgroup")
    assert (tmp_path / "waited").exists()
    assert "2 failed, 8 passed" in done.stdout, done.stdout
    assert len(said) == 10


def test_those_that_belong_together_run_in_one_process(tmp_path: Path):
    shop = {name: "".join(f"def test_{n}(): pass\n" for n in range(8)) for name in TOGETHER["shop"]}
    files = {"conftest.py": ORDERLY + DISTRIBUTED, "tests/test_a.py": shop[TOGETHER["shop"][0]], **shop}
    done, said = run(tmp_path, files, "-n", "3", "--dist", "loadgroup")
    assert len(said) == 24, done.stdout
    assert len({process for process, name in said if name.startswith(TOGETHER["shop"])}) == 1
    assert len({process for process, _ in said}) > 1


def test_what_belongs_together_is_there():
    for name in (name for names in TOGETHER.values() for name in names):
        file, _, test = name.partition("::")
        assert f"\ndef {test}" in (ROOT / file).read_text()


@pytest.mark.parametrize(
    "hang",
    [
        "def test_it(): threading.Event().wait()",
        "def test_it(): trio.run(trio.sleep_forever)",
        "def test_it(): trio.run(trio.to_thread.run_sync, threading.Event().wait)",
    ],
)
def test_one_that_hangs_ends_with_the_stacks_of_its_threads(tmp_path: Path, hang: str):
    files = {"conftest.py": ORDERLY, "test_it.py": f"import threading, trio\n\n{hang}\n"}
    done, _ = run(
        tmp_path, files, "-p", "no:xdist", "-o", "faulthandler_timeout=3", "-o", "faulthandler_exit_on_timeout=true"
    )
    assert done.returncode == 1
    assert "in test_it" in done.stderr
    assert "in wait" in done.stderr or "in get_events" in done.stderr


def test_each_test_has_such_a_bound(pytestconfig: pytest.Config):
    assert float(pytestconfig.getini("faulthandler_timeout")) >= 1200
    assert pytestconfig.getini("faulthandler_exit_on_timeout") is True
