"""The story of `docs/interop.md`, from Rails and back, told by its own code."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import ROOT, Server, Worker, wait_for
from shop import ruby_has

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not ruby_has("sidekiq", "active_job"),
        reason="Ruby's ActiveJob is missing (Debian: ruby-activejob, ruby-sidekiq)",
    ),
]

# What a Rails app has besides: its records and the base of its jobs.
PRELUDE = f"""
require {str(ROOT / "tests" / "interop" / "rails.rb")!r}
ApplicationJob = ActiveJob::Base
class User
  def update!(tracked:) = Sidekiq.redis {{ |redis| redis.set("user:#{{id}}", tracked) }}
end
"""


def test_the_story_from_rails_and_back_runs_as_it_is_written(
    server: Server, run_worker: Callable[..., Worker], tmp_path: Path
):
    page = (ROOT / "docs" / "interop.md").read_text()
    ours, *_ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    *classes, call = re.findall(r"```ruby\n(.*?)```", page, re.DOTALL)
    (tmp_path / "app.py").write_text(ours)
    (tmp_path / "classes.rb").write_text(PRELUDE + "\n".join(classes))
    run_worker(server.url, "app:app", PYTHONPATH=f"{ROOT}:{tmp_path}")
    environment = {**os.environ, "REDIS_URL": server.url, "LANG": "C.UTF-8"}
    command = ["ruby", "-r", str(tmp_path / "classes.rb"), "-e", call]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    command = ["sidekiq", "-r", str(tmp_path / "classes.rb"), "-q", "default", "-c", "1"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet) as sidekiq:
        try:
            wait_for(lambda: server.command("GET", "user:7"), "Ruby hears of it")
        finally:
            sidekiq.kill()
    assert re.fullmatch(r"\d{3,} days on pro", str(server.command("GET", "user:7")))
