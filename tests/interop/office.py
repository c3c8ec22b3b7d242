"""An office with Sidekiq Web: a Redis, Sidekiq's own pages and API on it, and workers of ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from browser import Browser
from servers import ROOT, Server, Worker, free_port, start_worker, wait_for

HERE = Path(__file__).parent


def has_web() -> bool:
    check = "require 'sidekiq/web'; require 'webrick'"
    ruby = shutil.which("ruby")
    return ruby is not None and subprocess.run([ruby, "-e", check], capture_output=True, check=False).returncode == 0


required = bool(os.environ.get("TRIOWORKERS_REQUIRE_INTEROP"))
needs_web = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not required and not has_web(), reason="Sidekiq Web is not installed (Debian: ruby-sidekiq, ruby-webrick)"
    ),
]


@attrs.define
class Ruby:
    """Sidekiq's API in a Ruby process that lives for the module."""

    process: subprocess.Popen[str]

    def __call__(self, line: str) -> Any:
        """The value of one line of Ruby."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert isinstance(answer, list), f"{line}: {answer}"
        return answer[0]


@attrs.define
class Office:
    """A Redis, Sidekiq Web and Sidekiq's API on it, and workers of ours."""

    server: Server
    browser: Browser
    ruby: Ruby
    folder: Path
    workers: list[Worker] = attrs.field(factory=list)

    def start_worker(self) -> Worker:
        options = ["--lease", "2", "--shutdown-timeout", "2"]
        self.workers.append(
            start_worker(
                self.folder,
                self.server.url,
                "web_app:app",
                *options,
                FOLDER=str(self.folder),
                PYTHONPATH=f"{ROOT}:{HERE}",
            )
        )
        return self.workers[-1]

    def push(self, job_class: str, *args: object, **fields: object) -> str:
        item = {"class": job_class, "args": args, "queue": "web", **fields}
        jid: str = self.ruby(f"Sidekiq::Client.push(JSON.parse({json.dumps(json.dumps(item))}))")
        return jid

    def mend(self) -> None:
        (self.folder / "mended").touch()

    def unmend(self) -> None:
        (self.folder / "mended").unlink()

    def release(self, text: str) -> None:
        (self.folder / f"released-{text}").touch()

    def ran(self) -> list[str]:
        path = self.folder / "ran"
        return sorted(path.read_text().split()) if path.exists() else []

    def await_ran(self, *texts: str) -> None:
        """Wait until exactly these have run."""
        wait_for(lambda: set(self.ran()) >= set(texts), lambda: f"{texts} ran, not only {self.ran()}")
        assert self.ran() == sorted(texts)

    def members(self, key: str) -> list[str]:
        found = self.server.command("ZRANGE", key, 0, -1)
        assert isinstance(found, list)
        return found

    def in_progress(self) -> int:
        keys = self.server.command("KEYS", "queue:*:inprogress")
        assert isinstance(keys, list)
        return sum(int(str(self.server.command("LLEN", key))) for key in keys)

    def first_args(self, key: str) -> list[str]:
        return sorted(json.loads(member)["args"][0] for member in self.members(key))

    def await_running(self, jid: str) -> None:
        wait_for(lambda: [running for _, _, running in self.ruby("works")] == [jid], f"{jid} runs")

    def await_failed(self, key: str, *texts: str) -> None:
        wait_for(lambda: self.first_args(key) == sorted(texts), lambda: f"{texts} in {key}, not {self.first_args(key)}")

    def page_of(self, listing: str, jid: str) -> str:
        """The path of one entry's own page."""
        found = re.search(rf"href=\"(/{listing}/[0-9.]+-{jid})\"", self.browser.look(f"/{listing}"))
        assert found, f"{jid} is not on /{listing}"
        return found[1]

    def reset(self) -> None:
        self.release("all")  # of a test that failed
        self.server.command("DEL", "queue:web", "queue:narrow")
        wait_for(lambda: self.in_progress() == 0, "nothing runs")
        for path in self.folder.glob("*"):
            if path.name in ("ran", "mended") or path.name.startswith("released"):
                path.unlink()
        self.server.command("DEL", "retry", "schedule", "dead", "queue:web", "queue:narrow")


@contextmanager
def opened_office(folder: Path) -> Iterator[Office]:
    """An office in `folder`, closed with all its processes at the end."""
    server = Server(folder).start()
    environment = {**os.environ, "REDIS_URL": server.url, "SIDEKIQ_WEB_TESTING": "1"}
    port = free_port()
    errors = (folder / "web.log").open("w")
    options: dict[str, Any] = {"env": environment, "stdout": subprocess.PIPE, "text": True}
    web = subprocess.Popen(["ruby", str(HERE / "web.rb"), str(port)], stderr=errors, **options)
    api = subprocess.Popen(["ruby", str(HERE / "api.rb")], stdin=subprocess.PIPE, **options)
    office = Office(server, Browser(f"http://127.0.0.1:{port}"), Ruby(api), folder)
    try:
        assert web.stdout is not None
        assert web.stdout.readline() == "ready\n", (folder / "web.log").read_text()
        yield office
    finally:
        for process in (web, api, *(worker.process for worker in office.workers)):
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        errors.close()
        server.kill()
