"""Which module a TARGET is: one copy of it, never another of that name, and no worker while it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT

APP = "from trioworkers import App\napp = App()\n@app.handler('default')\nasync def add(a: int, b: int): pass\n"
LOAD = """
import sys
from trioworkers.cli.loader import load_app
from trioworkers.errors import TrioworkersError
try:
    app = load_app(sys.argv[1])
except TrioworkersError as error:
    print(f"{type(error).__name__}: {error}")
else:
    copies = {id(module.app): module for module in list(sys.modules.values()) if hasattr(module, "app") and hasattr(module, "add")}
    print(len(copies), app.find("default", "add").function.__module__, *sorted(app.queues))
"""


@pytest.fixture
def load(tmp_path: Path):
    """Writes files, loads a target, and returns what came of it: how many copies of the module, its name, the queues; or the error."""

    def run(target: str, **files: str) -> str:
        for name, text in files.items():
            path = tmp_path / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run(
            [sys.executable, "-P", "-c", LOAD, target],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    return run


BESIDE = "from {} import app\n@app.handler('mails')\nasync def mail(): pass\n"


@pytest.mark.parametrize("known_as", ["shop.jobs", "jobs"])
@pytest.mark.parametrize("is_package", [True, False])
def test_file_is_one_module_whoever_imports_it(load, known_as: str, is_package: bool):
    files = {"shop__in__jobs": APP + "import mails\n", "shop__in__mails": BESIDE.format(known_as)}
    if is_package:
        files["shop__in____init__"] = ""
    assert load("shop/jobs.py", **files) == "1 shop.jobs default mails"


def test_package_that_imports_the_file_itself(load):
    files = {"shop__in____init__": "from shop.jobs import app\n", "shop__in__jobs": APP}
    assert load("shop/jobs.py", **files) == "1 shop.jobs default"


def test_relative_imports_work_and_deep_packages_too(load):
    files = {"a__in____init__": "", "a__in__b__in____init__": "", "a__in__b__in__jobs": APP + "from . import mails\n"}
    files["a__in__b__in__mails"] = "from .jobs import app\n"
    assert load("a/b/jobs.py", **files) == "1 a.b.jobs default"


def test_file_elsewhere_is_imported_by_its_own_name(load, tmp_path: Path):
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "jobs_of_mine.py").write_text(APP)
    assert load(str(elsewhere / "jobs_of_mine.py")) == "1 jobs_of_mine default"


@pytest.mark.parametrize("name", ["queue", "email", "json", "this"])
@pytest.mark.parametrize("form", ["{}.py", "{}:app", "{}"])
def test_name_of_pythons_own_is_said(load, name: str, form: str):
    told = load(form.format(name), **{name: APP})
    assert told.startswith("ConfigurationError: ")
    assert f"'{name}' is a module of Python's own; rename the file" in told


def test_name_of_another_module_is_said(load):
    for form in ("attrs.py", "attrs:app"):
        told = load(form, attrs=APP)
        assert "another module is called 'attrs' already" in told, told


def test_in_a_package_any_name_will_do(load):
    files = {"shop__in____init__": "", "shop__in__queue": APP, "plain__in__email": APP}
    assert load("shop/queue.py", **files) == "1 shop.queue default"
    assert load("plain/email.py", **files) == "1 plain.email default"


@pytest.mark.parametrize("start", ["app.run()", "import trio\ntrio.run(app.serve)"])
def test_module_that_runs_its_app_when_imported_is_refused(load, start: str):
    told = load("my_app.py", my_app=APP + start)
    assert "'my_app.py' runs a worker when it is imported" in told
    assert 'belongs under `if __name__ == "__main__":`' in told
    assert "my_app.py:{}".format(5 if start == "app.run()" else 6) in told


def test_module_without_an_app_is_told_so(load):
    assert load("my_app.py", my_app="") == "ConfigurationError: 'my_app.py' has no App"


def test_package_is_imported_once_by_its_own_name(load):
    files = {"src__in__pkg__in____init__": APP + "import pkg.mails\n", "src__in__pkg__in__mails": BESIDE.format("pkg")}
    assert load("src/pkg/__init__.py", **files) == "1 pkg default mails"


def test_file_that_a_package_of_its_name_goes_before_is_refused(load):
    said = load("app.py", app=APP, app__in____init__="print('imported')\n" + APP)
    assert said.startswith("ConfigurationError: app.py can't be imported: 'app' means ")
    assert "imported\n" not in said
