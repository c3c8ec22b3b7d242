"""Django's Tasks over trioworkers: Django's own where it has them (6.0), else django-tasks. A real project with SQLite, a real worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pages import write_programs
from servers import ROOT, Server, Worker, free_port, wait_for

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("django")


@pytest.fixture(scope="module")
def own_server(folder: Path) -> Iterator[Server]:
    (folder / "redis").mkdir()
    server = Server(folder / "redis").start()
    yield server
    server.kill()


@pytest.fixture(scope="module", autouse=True)
def project(folder: Path, own_server: Server) -> Iterator[None]:
    """Django, set up in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_SETTINGS_MODULE", "django_probe.settings")
        patch.setenv("PROBE_DATABASE", str(folder / "db.sqlite3"))
        patch.setenv("REDIS_URL", own_server.url)
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", run_syncdb=True, verbosity=0)
        yield
        connections.close_all()


@pytest.fixture(scope="module")
def start(folder: Path, own_server: Server, project: None) -> Iterator[Callable[..., Worker]]:
    """`manage.py trioworkers`, ended with the tests."""
    workers: list[Worker] = []

    def start(*options: str) -> Worker:
        log = folder / f"worker{len(workers)}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, str(TESTS / "django_probe" / "manage.py"), "trioworkers", *options],
                env=environment(),
                stdout=sink,
                stderr=sink,
                cwd=folder,
            )
        workers.append(Worker(process, log))
        return workers[-1].wait_started()

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()


def environment(*more: Path, **values: str) -> dict[str, str]:
    path = os.pathsep.join(map(str, [*more, ROOT, TESTS]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "", **values}


@pytest.fixture(scope="module")
def worker(start: Callable[..., Worker]) -> Worker:
    return start()


@pytest.fixture
def tasks(project: None) -> Any:
    from django_probe import tasks

    return tasks


def ended(result: Any) -> Any:
    """`result`, as soon as the task is over."""

    def over() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_for(over, f"it is over: {result}")
    return result


def waiting(server: Server, queue: str) -> list[Any]:
    found = server.command("LRANGE", f"queue:{queue}", 0, -1)
    assert isinstance(found, list)
    return [json.loads(payload) for payload in reversed(found)]


# ── what a task returns ────────────────────────────────────────────────────────────────────────────────────────────────


def test_task_runs_and_its_result_is_there(worker: Worker, tasks: Any):
    result = tasks.add.enqueue(2, b=3)
    assert (result.status, result.args, result.kwargs, result.backend) == ("READY", [2], {"b": 3}, "default")
    assert result.enqueued_at is not None
    with pytest.raises(ValueError, match="not finished"):
        tasks.add.enqueue(1).return_value  # noqa: B018
    assert ended(result).return_value == 5
    assert result.status == "SUCCESSFUL"
    assert result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at
    assert (result.errors, result.attempts, len(result.worker_ids)) == ([], 1, 1)
    found = tasks.add.get_result(result.id)
    assert (found.task, found.return_value, found.args) == (tasks.add, 5, [2])


def test_async_task_runs(worker: Worker, tasks: Any):
    assert ended(tasks.add_async.enqueue(2, 3)).return_value == 5


def test_task_is_enqueued_and_looked_at_in_an_event_loop(worker: Worker, tasks: Any):
    from django.core.exceptions import SynchronousOnlyOperation

    async def main() -> int:
        with pytest.raises(SynchronousOnlyOperation, match="aenqueue"):
            tasks.add.enqueue(1)
        result = await tasks.add.aenqueue(20, 3)
        with pytest.raises(SynchronousOnlyOperation, match="aget_result"):
            result.refresh()
        while not result.is_finished:
            await asyncio.sleep(0.02)
            await result.arefresh()
        again = await tasks.add.aget_result(result.id)
        return int(again.return_value)

    assert asyncio.run(main()) == 23


def test_failure_is_told_with_its_traceback(worker: Worker, tasks: Any):
    result = ended(tasks.fail.enqueue("no such thing"))
    assert result.status == "FAILED"
    [error] = result.errors
    assert error.exception_class is ValueError
    assert "in fail" in error.traceback
    assert "no such thing" in error.traceback
    with pytest.raises(ValueError, match="failed"):
        result.return_value  # noqa: B018


@pytest.mark.parametrize(("name", "kind"), [("odd", TypeError), ("exits", SystemExit)])
def test_what_is_no_json_and_what_ends_a_program_are_failures(
    worker: Worker, tasks: Any, name: str, kind: type[BaseException]
):
    result = ended(getattr(tasks, name).enqueue())
    assert [error.exception_class for error in result.errors] == [kind]
    assert worker.process.poll() is None


def test_context_tells_of_the_attempt(worker: Worker, tasks: Any):
    result = tasks.attempts.enqueue("x")
    assert ended(result).return_value == ["x", 1, result.id, "RUNNING"]


def test_task_writes_to_the_database(worker: Worker, tasks: Any):
    from django_probe.models import Note

    pk = ended(tasks.note.enqueue("hello")).return_value
    assert Note.objects.get(id=pk).text == "hello"


def test_other_queue_and_a_later_time(worker: Worker, tasks: Any, own_server: Server):
    from django.utils import timezone

    at = timezone.now() + timedelta(seconds=1)
    result = tasks.add.using(queue_name="other", run_after=at).enqueue(5)
    assert ended(result).return_value == 6
    assert result.started_at >= at - timedelta(seconds=1)
    assert result.task.queue_name == "other"
    far = tasks.add.using(run_after=timezone.now() + timedelta(days=60)).enqueue(5)
    ttl = int(str(own_server.command("TTL", f"tw:task:{far.id}")))
    assert ttl > 60 * 86_400
    assert tasks.add.get_result(far.id).status == "READY"


def test_signals_are_sent(worker: Worker, tasks: Any):
    from trioworkers.django.api import task_enqueued

    seen = []

    def note(sender: type, task_result: Any, **_: Any) -> None:
        seen.append((sender.__name__, task_result.id))

    task_enqueued.connect(note)
    try:
        result = tasks.add.enqueue(1)
    finally:
        task_enqueued.disconnect(note)
    assert seen == [("TasksBackend", result.id)]
    ended(result)
    wait_for(lambda: f"id={result.id}" in worker.text or "Task id" not in worker.text, "the worker's signals")


# ── what isn't there, and what others did ──────────────────────────────────────────────────────────────────────────────


def test_result_of_nothing(tasks: Any):
    from trioworkers.django.api import TaskResultDoesNotExist

    for jid in ("nobody", "", "a" * 300, "x\ny"):
        with pytest.raises(TaskResultDoesNotExist):
            tasks.add.get_result(jid)


@pytest.mark.parametrize("left_there", ["garbage", "{}", '{"task": 3}', '{"task":"os.system","args":[],"kwargs":{}}'])
def test_garbage_where_a_record_should_be(tasks: Any, own_server: Server, left_there: str):
    from trioworkers.django.api import TaskResultDoesNotExist

    own_server.command("SET", "tw:task:garbage", left_there)
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result("garbage")


def test_task_that_somebody_deleted_has_failed(tasks: Any, own_server: Server):
    from django.utils import timezone

    result = tasks.add.using(run_after=timezone.now() + timedelta(days=1)).enqueue(5)
    command = [sys.executable, "-m", "trioworkers", "delete", result.id, "--redis", own_server.url]
    subprocess.run(command, check=True, env=environment(), capture_output=True, timeout=120)
    result.refresh()
    assert result.status == "FAILED"
    assert [error.traceback for error in result.errors] == ["it was deleted"]
    assert result.errors[0].exception_class.__name__ == "JobGone"


def test_what_is_not_declared_is_never_imported(worker: Worker, own_server: Server):
    jid = "0123456789abcdef01234567"
    job = {"class": "antigravity.anything", "args": [[], {}], "jid": jid, "retry": 0, "queue": "default", "tw_keep": 60}
    own_server.command("LPUSH", "queue:default", json.dumps(job))
    wait_for(lambda: own_server.command("EXISTS", f"tw:result:{jid}"), "it is over")
    found = json.loads(str(own_server.command("GET", f"tw:result:{jid}")))
    assert (found["how"], found["error_class"]) == ("dead", "trioworkers.UnknownClass")


def test_job_that_others_sent_runs_like_a_task(worker: Worker, own_server: Server, tasks: Any):
    command = [sys.executable, "-m", "trioworkers", "enqueue", "default", "django_probe.tasks.add", "[1]", '{"b": 9}']
    done = subprocess.run(
        [*command, "--redis", own_server.url], check=True, env=environment(), capture_output=True, text=True, timeout=60
    )
    jid = done.stdout.strip()
    wait_for(lambda: own_server.command("EXISTS", f"tw:task:{jid}"), "it runs")
    found = tasks.add.get_result(jid)
    assert (found.args, found.kwargs) == ([1], {"b": 9})


# ── transactions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_task_is_sent_when_the_transaction_commits(tasks: Any, own_server: Server):
    from django.db import transaction

    from trioworkers.django.api import TaskResultDoesNotExist

    other = tasks.second_time  # a queue that nobody serves yet
    own_server.command("DEL", "queue:again")
    with transaction.atomic():
        result = other.enqueue()
        assert waiting(own_server, "again") == []
        assert result.enqueued_at is None
        with pytest.raises(TaskResultDoesNotExist):
            other.get_result(result.id)
    assert [job["jid"] for job in waiting(own_server, "again")] == [result.id]
    assert result.enqueued_at is not None
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        other.enqueue()
        raise ZeroDivisionError
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            other.enqueue()
            raise ZeroDivisionError
        kept = other.enqueue()
    assert [job["jid"] for job in waiting(own_server, "again")] == [result.id, kept.id]
    own_server.command("DEL", "queue:again")


def test_what_is_wrong_shows_before_the_commit(tasks: Any, own_server: Server):
    from django.db import transaction

    with transaction.atomic():
        with pytest.raises(TypeError):
            tasks.add.enqueue(object())
        with pytest.raises(Exception, match="max_payload_bytes"):
            tasks.add.enqueue("x" * 2_000_000)


def test_django_test_case_sends_on_commit(tasks: Any, own_server: Server):
    from django.test import TestCase

    class Case(TestCase):
        def runTest(self) -> None:  # noqa: N802 - unittest's name
            own_server.command("DEL", "queue:again")
            with self.captureOnCommitCallbacks(execute=True):
                tasks.second_time.enqueue()
                assert waiting(own_server, "again") == []
            assert len(waiting(own_server, "again")) == 1
            own_server.command("DEL", "queue:again")

    Case.setUpClass()
    try:
        result = Case().run()
    finally:
        Case.tearDownClass()
    assert result is not None
    assert (result.errors, result.failures) == ([], [])


# ── other options ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_task_is_tried_again_if_that_is_wanted(start: Callable[..., Worker], tasks: Any, own_server: Server):
    result = tasks.second_time.enqueue()
    start("--backend", "again")

    def failed_once() -> bool:
        result.refresh()
        return result.status == "READY" and len(result.errors) == 1

    wait_for(failed_once, "it fails, and is to be tried again")
    command = [sys.executable, "-m", "trioworkers", "retry", result.id, "--redis", own_server.url]
    subprocess.run(command, check=True, env=environment(), capture_output=True, timeout=120)
    assert ended(result).return_value == 2
    assert (result.attempts, [error.exception_class for error in result.errors]) == (2, [ValueError])


def test_tasks_in_processes_are_killed_with_what_they_started(start: Callable[..., Worker], tasks: Any, tmp_path: Path):
    worker = start("--backend", "killed")
    pid, parent, _ = ended(tasks.where.enqueue()).return_value
    assert (pid != worker.process.pid, parent) == (True, worker.process.pid)
    result = ended(tasks.sleep_long.enqueue(str(tmp_path / "pids")))
    assert result.status == "FAILED"
    assert [error.exception_class.__name__ for error in result.errors] == ["TooSlowError"]

    def gone(pid: str) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"

    for pid in (tmp_path / "pids").read_text().split():
        wait_for(lambda pid=pid: gone(pid), "it is killed")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"colour": "red"}, "there is no option 'colour'; there are url"),
        ({"retry": -1}, "retry"),
        ({"isolate": "jail"}, "isolate"),
        ({"keep_results": 10**9}, "keep_results"),
        ({"concurrency": True}, "concurrency"),
        ({"modules": "one"}, "modules"),
        ({"enqueue_on_commit": 1}, "enqueue_on_commit"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], told: str):
    from django.core.exceptions import ImproperlyConfigured

    from trioworkers.django import TasksBackend

    with pytest.raises(ImproperlyConfigured, match=rf"TASKS\['x'\].*{told}"):
        TasksBackend("x", {"OPTIONS": options})


def test_checks_say_what_is_wrong_and_what_one_must_know():
    from trioworkers.django import TasksBackend

    def ids(**params: Any) -> list[str]:
        return [message.id for message in TasksBackend("x", params).check()]

    assert ids() == ["trioworkers.I001"]
    assert ids(OPTIONS={"isolate": "process"}) == []
    assert ids(QUEUES=["a b"], OPTIONS={"isolate": "process"}) == ["trioworkers.E002"]
    assert ids(OPTIONS={"isolate": "process", "database": "no"}) == ["trioworkers.E003"]
    assert ids(OPTIONS={"isolate": "process", "url": "http://x"}) == ["trioworkers.E001"]
    done = subprocess.run(
        [sys.executable, str(TESTS / "django_probe" / "manage.py"), "check"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "tasks run in threads" in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--queue", "nobody"], "no queue 'nobody'; there are default, other"), (["--concurrency", "0"], "concurrency")],
)
def test_command_that_makes_no_sense(options: list[str], told: str):
    done = subprocess.run(
        [sys.executable, str(TESTS / "django_probe" / "manage.py"), "trioworkers", *options],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


# ── the page ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def asked(url: str, form: dict[str, str] | None = None) -> Any:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=30) as response:
        return json.loads(response.read())


def test_site_of_the_page_sends_a_task_and_reads_its_result(own_server: Server, tmp_path: Path):
    run = [sys.executable, "manage.py"]
    for words in (["-m", "django", "startproject", "shop_site", "."], ["manage.py", "startapp", "shop"]):
        subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment(tmp_path), check=True)
    for path in write_programs("django.md", tmp_path).values():
        if find_spec("django.tasks") is None:  # as the page says
            text = path.read_text().replace("from django.tasks", "from django_tasks")
            path.write_text(text.replace('["shop", ', '["django_tasks", "shop", '))
    own_server.command("FLUSHALL")
    port = free_port()
    told = environment(tmp_path, DJANGO_SETTINGS_MODULE="shop_site.settings")
    for words in (["makemigrations", "shop"], ["migrate"]):
        subprocess.run([*run, *words], cwd=tmp_path, env=told, check=True, capture_output=True)
    with (tmp_path / "log").open("wb") as log:
        processes = [
            subprocess.Popen([*run, *words], cwd=tmp_path, env=told, stdout=log, stderr=log)
            for words in (["runserver", "--noreload", str(port)], ["trioworkers"])
        ]
        try:
            placed: dict[str, Any] = {}

            def place() -> bool:
                try:
                    placed.update(asked(f"http://127.0.0.1:{port}/orders", {"customer": "Ada"}))
                except urllib.error.URLError:
                    return False
                return True

            wait_for(place, (tmp_path / "log").read_text())
            look = f"http://127.0.0.1:{port}/tasks/{placed['task']}"
            wait_for(lambda: asked(look)["status"] == "SUCCESSFUL", "the task is done")
            assert asked(look)["value"] == "confirmed to Ada"
        finally:
            for process in processes:
                process.terminate()
            ends = [process.wait(60) for process in processes]
    assert ends[1] == 0, (tmp_path / "log").read_text()
