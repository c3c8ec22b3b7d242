"""A Rails shop: a Redis, a Ruby that evaluates what tests say, a real Sidekiq that runs ActiveJob's jobs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from servers import ROOT, Server, Worker, start_worker, wait_for

HERE = Path(__file__).parent
required = bool(os.environ.get("TRIOWORKERS_REQUIRE_INTEROP"))


def ruby_has(*libraries: str) -> bool:
    """Whether Ruby is there with these libraries; taken for granted where nothing may be skipped."""
    ruby = shutil.which("ruby")
    if required or ruby is None:
        return required
    command = [ruby, *(f"-r{library}" for library in libraries), "-e", ""]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Shop:
    """The Ruby side. Its Sidekiq consumes queue `rails`; our worker, `rails_app`, consumes queue `python` of the same Redis."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._runs = folder / "runs"
        self._log = folder / "sidekiq.log"
        environment = {**os.environ, "REDIS_URL": server.url, "LANG": "C.UTF-8"}
        self._console = subprocess.Popen(
            ["ruby", str(HERE / "console.rb")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with self._log.open("wb") as sink:
            command = ["sidekiq", "-r", str(HERE / "rails.rb"), "-q", "rails", "-c", "2"]
            self._sidekiq = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
        options = ("--shutdown-timeout", "1")
        path = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "tests", HERE))
        self.worker: Worker = start_worker(
            folder, server.url, "rails_app:app", *options, RUNS=str(self._runs), PYTHONPATH=path
        )

    def ruby(self, code: str) -> Any:
        """What Ruby makes of `code`, in which the shop's classes are known."""
        assert self._console.stdin is not None
        assert self._console.stdout is not None
        self._console.stdin.write(code.replace("\n", "; ") + "\n")
        self._console.stdin.flush()
        answer = json.loads(self._console.stdout.readline())
        assert "error" not in answer, f"{code}: {answer['error']}"
        return answer["result"]

    def ran_in_ruby(self, jid: str) -> dict[str, Any]:
        """What the job of this jid noted when Ruby performed it; waits for it."""
        return self._wait_for(jid, lambda: self.server.command("LRANGE", "ruby:performed", 0, -1), self._log)

    def ran_in_python(self, jid: str) -> dict[str, Any]:
        """What the job of this jid noted when our worker ran it; waits for it."""
        return self._wait_for(
            jid, lambda: self._runs.read_text().splitlines() if self._runs.exists() else [], self.worker.log
        )

    def _wait_for(self, jid: str, lines: Any, log: Path) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def ran() -> bool:
            found[:] = [record for record in map(json.loads, lines()) if record["jid"] == jid]
            return bool(found)

        try:
            wait_for(ran, f"job {jid} runs")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log.read_text()[-3000:]}") from None
        return found[-1]

    def close(self) -> None:
        self._console.kill()
        self._console.communicate()
        self.worker.kill()
        self._sidekiq.send_signal(signal.SIGKILL)
        self._sidekiq.wait()
