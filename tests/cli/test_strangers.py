"""No command passes on what strangers wrote as it is: to a terminal, a pipe, or who reads its JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from servers import Server

EVIL = "a\x1b[31m\x9b31m\u202eb\u2028c\r\nforged"
NEVER = set("\x1b\x9b\u202e\u2028\r")


@pytest.fixture
def evil(redis_url: str, shared_server: Server) -> str:
    """A Redis in which everything that may be anybody's text is evil."""
    job = {"class": EVIL, "args": [EVIL], "queue": "q", "error_message": EVIL, "error_class": EVIL, "retry_count": 1}
    job |= {"failed_at": 1.0, "tags": [EVIL], "retry": True}
    command = shared_server.command
    command("SADD", "queues", "q", EVIL)
    for place, score in (("retry", 1), ("schedule", 2e9), ("dead", 1)):
        command("ZADD", place, score, json.dumps({**job, "jid": f"{place}{EVIL}"}))
    for queue in ("q", EVIL):
        command("LPUSH", f"queue:{queue}", json.dumps({**job, "jid": f"jid{EVIL}"}))
    process = f"host{EVIL}:1:abc"
    command("SADD", "processes", process)
    info = {
        "hostname": EVIL,
        "pid": 1,
        "tag": EVIL,
        "queues": ["q", EVIL],
        "concurrency": 1,
        "identity": process,
        "started_at": 1,
    }
    command("HSET", process, "info", json.dumps(info), "busy", 1, "beat", "1", "quiet", "false")
    command(
        "HSET",
        f"{process}:work",
        "t",
        json.dumps({"queue": "q", "run_at": 1, "payload": json.dumps({**job, "jid": EVIL})}),
    )
    command("SADD", "paused", EVIL)
    return redis_url


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        ["queues"],
        ["jobs", "q"],
        ["retries"],
        ["scheduled"],
        ["dead"],
        ["show", f"dead{EVIL}"],
        ["show", "nobody"],
        ["stats"],
        ["ps"],
        ["doctor"],
        ["jobs", "q", "--where", f"class={EVIL}"],
        ["requeue", f"dead{EVIL}", "--yes"],
        ["cancel", EVIL],
        ["pause", EVIL],
        ["quiet", f"host{EVIL}:1:abc"],
        ["enqueue", "q", EVIL],
    ],
    ids=lambda words: words[0],
)
def test_nothing_evil_passes(evil: str, words: list[str], as_json: bool):
    command = [sys.executable, "-m", "trioworkers", *words, "--redis", evil, *(["--json"] if as_json else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if as_json and "No such option: --json" in done.stderr:
        return
    assert done.stdout or done.stderr
    for text in (done.stdout, done.stderr):
        assert not NEVER & set(text), text
        assert not any(line.startswith("forged") for line in text.splitlines()), text
    assert "Traceback" not in done.stderr


def test_exported_lines_are_of_plain_characters_and_mean_what_they_meant(evil: str):
    command = [sys.executable, "-m", "trioworkers", "export", "dead", "--redis", evil]
    written = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert not NEVER & {*written}
    job = json.loads(json.loads(written)["payload"])
    assert job["jid"] == f"dead{EVIL}"
