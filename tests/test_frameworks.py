"""docs/frameworks.md: each of its programs, with the real framework and server, sends a job and reads its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import write_programs
from servers import ROOT, Server, Worker, free_port, start_worker, wait_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_programs("frameworks.md", folder)
    return folder


@pytest.fixture(scope="module")
def own_server(folder: Path) -> Iterator[Server]:
    (folder / "redis").mkdir()
    server = Server(folder / "redis").start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def worker(folder: Path, own_server: Server) -> Iterator[Worker]:
    worker = start_worker(folder, own_server.url, "jobs.py").wait_started()
    yield worker
    worker.kill()


@pytest.fixture
def serve(folder: Path, own_server: Server, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs a web server on a free port until the test ends; returns its address."""
    processes = []

    def serve(*command: str, port_option: str) -> str:
        port = free_port()
        bind = f"127.0.0.1:{port}" if port_option == "--bind" else str(port)
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command, port_option, bind],
                cwd=folder,
                env={**os.environ, "REDIS_URL": own_server.url, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
                stdout=log,
                stderr=log,
            )
        processes.append(process)
        address = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                asked(f"{address}/")
            except urllib.error.HTTPError:
                return True
            except OSError:
                return False
            return True

        wait_for(answers, "the site starts")
        return address

    yield serve
    for process in processes:
        process.terminate()
        process.wait(60)


def asked(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as response:
        return json.loads(response.read())


@pytest.mark.parametrize(
    ("command", "port_option"),
    [
        (["gunicorn", "--preload", "--workers", "2", "--threads", "4", "flask_site:site"], "--bind"),
        (["gunicorn", "--preload", "--worker-class", "gevent", "flask_site:site"], "--bind"),
        (["uvicorn", "fastapi_site:site"], "--port"),
        (["uvicorn", "starlette_site:site"], "--port"),
    ],
    ids=["flask", "flask gevent", "fastapi", "starlette"],
)
def test_site_sends_a_job_and_reads_its_result(
    worker: Worker, serve: Callable[..., str], command: list[str], port_option: str
):
    address = serve(*command, port_option=port_option)
    for user in (7, 8, 9):
        jid = asked(f"{address}/welcome/{user}", "POST")["jid"]
        wait_for(lambda jid=jid: asked(f"{address}/jobs/{jid}")["result"] is not None, "the job ends")
        assert asked(f"{address}/jobs/{jid}") == {"result": f"welcome, user {user}"}


def test_script_sends_jobs_and_reads_their_results(worker: Worker, folder: Path, own_server: Server):
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "REDIS_URL": own_server.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [f"welcome, user {n}" for n in (1, 2, 3)]
    assert done.stderr == ""


def test_page_names_each_program_that_it_runs(folder: Path):
    assert sorted(path.name for path in folder.glob("*.py")) == [
        "after_commit.py",
        "fastapi_site.py",
        "flask_site.py",
        "jobs.py",
        "script.py",
        "starlette_site.py",
    ]


COMMITS = """
import sqlalchemy
from sqlalchemy.orm import Session
from after_commit import client, later

engine = sqlalchemy.create_engine("sqlite://")
with client, Session(engine) as session:
    for user_id, end in ((1, session.commit), (2, session.rollback), (3, session.commit)):
        session.execute(sqlalchemy.text("SELECT 1"))
        later(session, user_id)
        end()
"""


def test_jobs_go_out_with_the_commit_and_not_after_a_rollback(folder: Path, redis_url: str, shared_server: Server):
    environment = {**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    subprocess.run([sys.executable, "-c", COMMITS], env=environment, timeout=120, check=True)
    waiting = shared_server.command("LRANGE", "queue:mail", 0, -1)
    assert isinstance(waiting, list)
    assert [json.loads(payload)["args"] for payload in reversed(waiting)] == [[1], [3]]
