"""The files in deploy/: `doctor` finds nothing wrong in them, and what is wrong in others like them; their own tools take them where these are installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import ROOT, Server, free_port, may_have_its_own_pids, wait_for

from trioworkers.cli.checkup import PARENT_SECONDS, check_grace
from trioworkers.cli.findings import deployment
from trioworkers.cli.manifests import check_manifest, read_manifest
from trioworkers.process.place import PATIENCE_S
from trioworkers.settings import settings

FOLDER = ROOT / "deploy"
APP = """
import trio
from trioworkers import App
app = App()

@app.handler("q", "Sleep")
async def sleep() -> None:
    await trio.sleep(0.5)
"""
MANIFESTS = ("compose.yaml", "trioworkers.service", "kubernetes.yaml")


@pytest.mark.parametrize("name", MANIFESTS)
def test_grace_period_is_enough(name: str):
    its = read_manifest(FOLDER / name)
    seconds, source = its.grace_s
    timeout_s = settings({}, {}).shutdown_timeout
    assert seconds is not None
    assert PARENT_SECONDS == PATIENCE_S
    assert check_grace(seconds, source, timeout_s, before_s=its.before_s, several=True).level == "ok"
    assert seconds >= (60 if name == "kubernetes.yaml" else 0) + timeout_s + PATIENCE_S + 2


@pytest.mark.parametrize("name", ["Dockerfile", *MANIFESTS])
def test_nothing_is_wrong_in_them(name: str):
    assert [finding.level for finding in check_manifest(read_manifest(FOLDER / name), ["queue:default"])] == ["ok"]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("trioworkers.service", " --processes auto", "", "only `--processes` tells systemd"),
        ("trioworkers.service", "KillMode=mixed", "", "stops each process twice"),
        ("trioworkers.service", "KillMode=mixed", "KillMode=control-group", "stops each process twice"),
        ("trioworkers.service", "Restart=on-failure", "", "stays away"),
        ("trioworkers.service", "KillMode=mixed", "KillMode=mixed\nKillSignal=SIGHUP", "KillSignal is SIGHUP"),
        ("trioworkers.service", "=/srv/app/.venv/bin/trioworkers run app:app", "=/bin/sh -c 'trioworkers run app:app'", "a shell"),
        ("kubernetes.yaml", "httpGet: {path: /live", "httpGet: {path: /ready", "livenessProbe asks for /ready"),
        ("kubernetes.yaml", '"--health", ":7433", ', "", "no `--health` answers"),
        ("kubernetes.yaml", '":7433"', '"127.0.0.1:7433"', "answers inside the pod only"),
        ("kubernetes.yaml", "containerPort: 7433", "containerPort: 7434", "probes ask at port 7434"),
        ("kubernetes.yaml", '"--processes", "2"', '"--processes", "auto"', "each core of the node"),
        ("kubernetes.yaml", '"--max-rss"', '"--process-id", "web", "--max-rss"', "refuse to start"),
        ("kubernetes.yaml", "      containers:", "      shareProcessNamespace: true\n      containers:", "goes nowhere"),
        ("kubernetes.yaml", "minReplicaCount: 1", "minReplicaCount: 0", "nothing scales up"),
        ("kubernetes.yaml", "listName: queue:default", "listName: default", "none of the App's queues"),
        ("compose.yaml", '"--appendonly", "yes", ', "", "a restart loses jobs"),
        ("compose.yaml", "noeviction", "allkeys-lru", "throws jobs away"),
        ("compose.yaml", "restart: unless-stopped", "", "stays away"),
        ("compose.yaml", "    stop_grace_period", "    stop_signal: SIGKILL\n    stop_grace_period", "stop_signal is SIGKILL"),
        ("Dockerfile", 'ENTRYPOINT ["trioworkers", "run", "app:app"]', "ENTRYPOINT trioworkers run app:app", "starts a shell"),
        ("Dockerfile", "STOPSIGNAL SIGTERM", "STOPSIGNAL SIGQUIT", "STOPSIGNAL is SIGQUIT"),
    ],
)  # fmt: skip
def test_mistake_is_found(tmp_path: Path, name: str, old: str, new: str, said: str):
    text = (FOLDER / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    found = list(check_manifest(read_manifest(tmp_path / name), ["queue:default"]))
    assert [finding for finding in found if said in finding.text], found
    assert all(finding.level in ("problem", "warning") and finding.advice for finding in found)


OTHERS = {
    "a list of arguments": """
kind: Deployment
spec:
  replicas: 3
  template:
    spec:
      terminationGracePeriodSeconds: 60
      containers:
      - command:
        - trioworkers
        - --processes
        - auto
        - --health
        - ":8080"
        - --process-id
        - $(POD_NAME)
        ports:
        - containerPort: 8080
          name: health
        livenessProbe:
          httpGet:
            port: 8080
            path: /live
        readinessProbe:
          httpGet:
            path: /ready
            port: health
        resources:
          limits:
            memory: 1Gi
            cpu: 2
""",
    "a web server beside it": """
spec:
  replicas: 3
  containers:
  - command: ["sh", "-c", "gunicorn app"]
    livenessProbe: {httpGet: {path: /healthz, port: 8000}}
    ports: [{containerPort: 8000}]
---
spec:
  replicas: 1
  containers:
  - args: ["--health", ":7433", "--process-id", "w1"]
    livenessProbe: {httpGet: {path: /live, port: 7433}}
""",
    "a template": """
containers:
- args: ["--health", ":{{ .Values.port }}"]
  livenessProbe: {httpGet: {path: /live, port: {{ .Values.port }}}}
""",
    "a unit": "[Service]\nType = notify\nExecStart=/bin/sh -c 'exec trioworkers run app:app --processes 2'\nKillMode = mixed\nRestart = always",
    "another first process": 'FROM a\nENTRYPOINT ["tini", "--", "trioworkers"]',
    "migrations first": 'FROM a\nCMD ["sh", "-c", "./migrate && exec trioworkers run app:app"]',
}


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_is_said_of_what_is_right(tmp_path: Path, name: str):
    (tmp_path / "file").write_text(OTHERS[name])
    assert [finding.level for finding in check_manifest(read_manifest(tmp_path / "file"), [])] == ["ok"]


@pytest.mark.parametrize(
    "part",
    ["- ", "livenessProbe:\n", "httpGet: ", "sh -c ", "name: a ", "--health ", "limits:", "image:", "sleep ", "\n- "],
)
def test_no_file_takes_long(tmp_path: Path, part: str):
    many = part * ((200 << 10) // len(part))
    (tmp_path / "file").write_text(f"{many}\ncontainers:\n--processes auto")
    its = read_manifest(tmp_path / "file")
    began = time.thread_time()
    list(check_manifest(its, []))
    assert time.thread_time() - began < 3  # 40 ms; what is worse than linear takes minutes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("args: [", 'args: ["--shutdown-timeout", "60", '),  # 60 + 60 + 3
        ("seq 60", "seq 70"),
        ("terminationGracePeriodSeconds: 95", "terminationGracePeriodSeconds: 30"),
    ],
)
def test_what_is_done_before_the_worker_is_told_is_part_of_the_grace_period(tmp_path: Path, before: str, after: str):
    (tmp_path / "k.yaml").write_text((FOLDER / "kubernetes.yaml").read_text().replace(before, after))
    grace, *others = deployment(tmp_path / "k.yaml", None, None)
    assert (grace.level, "60 s of them" in grace.text or "70 s of them" in grace.text) == ("problem", True)
    assert [finding.level for finding in others] == ["ok"]


def test_every_option_in_them_is_one():
    told = subprocess.run(
        [sys.executable, "-m", "trioworkers", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    known = set(re.findall(r"--[a-z-]+", told.stdout))
    for path in (FOLDER / "Dockerfile", *(FOLDER / name for name in MANIFESTS)):
        lines = [line for line in path.read_text().splitlines() if re.match(r"\s*(CMD \[\"--|args:|ExecStart=)", line)]
        used = {option for line in lines for option in re.findall(r"--[a-z-]+", line)}
        assert used <= known, (path, used - known)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path):
    unit = tmp_path / "trioworkers.service"
    text = (FOLDER / "trioworkers.service").read_text()
    unit.write_text(text.replace("/srv/app/.venv/bin/trioworkers", "/bin/true").replace("/srv/app", "/tmp"))
    told = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "trioworkers.service" not in told.stderr, told.stderr


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_compose_takes_its_file():
    command = ["docker-compose", "-f", str(FOLDER / "compose.yaml"), "config"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "stop_grace_period: 35s" in told.stdout


def listed(name: str, pattern: str) -> list[str]:
    """A command or arguments, as a list in a file."""
    found = re.search(pattern, (FOLDER / name).read_text(), re.MULTILINE)
    assert found
    return [str(word) for word in json.loads(found[1])]


@pytest.mark.skipif(not may_have_its_own_pids(), reason="may not make a namespace of pids")
def test_container_is_healthy_drains_before_it_is_stopped_and_ends(tmp_path: Path, server: Server):
    """Its start, HEALTHCHECK and preStop, as in the files, with the worker as the first process."""
    (tmp_path / "app.py").write_text(APP)
    port = str(free_port())
    start, health = listed("Dockerfile", r"^ENTRYPOINT (.*)$"), listed("Dockerfile", r"^HEALTHCHECK.* CMD (.*)$")
    arguments = listed("kubernetes.yaml", r"args: (\[.*\])")
    hook = re.search(r"- -c\n +- \|\n((?: {20}.*\n)+)", (FOLDER / "kubernetes.yaml").read_text())
    assert hook
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "REDIS_URL": server.url}

    def in_container(command: list[str]) -> int:
        command = [word.replace("7433", port) for word in command]
        entered = ["nsenter", "--target", str(first), "--pid", "--mount", *command]
        return subprocess.run(entered, env=environment, capture_output=True, check=False).returncode

    command = [word.replace("7433", port) for word in (*start, *arguments)]
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with (tmp_path / "log").open("w") as log:
        container = subprocess.Popen([*namespace, *command], cwd=tmp_path, env=environment, stderr=log)
    try:
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
        wait_for(lambda: "processes are ready" in (tmp_path / "log").read_text(), (tmp_path / "log").read_text)
        first = int(children.read_text())
        assert in_container(health) == 0
        server.command("LPUSH", "queue:q", '{"class":"Sleep","args":[],"jid":"j","retry":true}')
        wait_for(lambda: server.command("LLEN", "queue:q") == 0, "it runs")
        assert in_container(["sh", "-c", hook[1]]) == 0
        assert server.command("GET", "stat:processed") == "1"  # drained: it has not come back before
        os.kill(first, signal.SIGTERM)
        assert container.wait(60) == 0
    finally:
        container.kill()
        container.wait()
