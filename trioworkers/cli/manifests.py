"""What `trioworkers doctor --manifest` reads: a Kubernetes manifest, a systemd unit, a compose file or a Dockerfile, and what in it stops workers badly.

Read by lines and words, not parsed: such files are templates as often as not. So only what is unmistakable is said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import attrs

from trioworkers.broker.checks import Finding
from trioworkers.errors import ConfigurationError

CHECK = "manifest"
_KINDS = {
    "systemd": re.compile(r"^\[Service\]", re.MULTILINE),
    "Dockerfile": re.compile(r"^FROM\s", re.MULTILINE),
    "compose": re.compile(r"^services:", re.MULTILINE),
    "Kubernetes": re.compile(r"^[ \t-]*(containers|scaleTargetRef):", re.MULTILINE),
}
_OPTION = re.compile(r"""(?<![\w-])(--[a-z][\w-]*)(?=["',=\s]+(?:-\s+)?["']?([^\s"',\]]+))""")
"""What a worker's command gives an option: an argument after it, or one of a list."""
_VALUE = re.compile(r"""^[ \t-]*([A-Za-z]\w*)[ \t]*[:=][ \t]*["']?([^\s"']+)""", re.MULTILINE)
_STOPSIGNAL = re.compile(r"^STOPSIGNAL[ \t]+(\S+)", re.MULTILINE)
_DEFAULT_GRACE_S = {"Kubernetes": 30.0, "systemd": 90.0, "compose": 10.0}
_GRACE = r"^[ \t-]*(terminationGracePeriodSeconds:|TimeoutStopSec=|stop_grace_period:)[ \t]*(\S.*)$"
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(min|ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_STOPPING = {"SIGTERM", "TERM", "15", "SIGINT", "INT", "2"}
_SHELL = re.compile(r"""\b(?:ba|da)?sh["',\s]{1,40}-[a-z]{0,5}c["',|>\s-]{1,80}([^\n]*)""")
_PROBE = re.compile(
    r"(?:\b(\w{1,40})Probe:\s{0,80}\{?\s{0,80})?httpGet:\s{0,80}\{?\s{0,80}(?:port:\s*[\"']?([\w-]+)[\"']?[,\s]{0,80})?"
    r"path:\s*[\"']?/(live|ready|drained)\b[\"']?(?:[,\s]{0,80}port:\s*[\"']?([\w-]+))?"
)
"""Those that ask for our paths: which, and at which port; others are another container's."""
LARGEST = 1 << 20


@attrs.frozen
class Manifest:
    """`text` is without comments. `kind`: a key of `_KINDS`."""

    name: str
    kind: str
    text: str

    def option(self, name: str) -> str | None:
        """What a worker's command in it gives an option; None: it doesn't."""
        return next((found[2] for found in _OPTION.finditer(self.text) if found[1] == name), None)

    def value(self, name: str) -> str | None:
        """Of the last line `NAME: VALUE` or `NAME=VALUE`."""
        found = [value for its, value in _VALUE.findall(self.text) if its == name]
        return found[-1] if found else None

    @property
    def shutdown_timeout_s(self) -> float | None:
        """What its command gives running jobs, instead of what the App does."""
        try:
            return float(self.option("--shutdown-timeout") or "")
        except ValueError:
            return None

    @property
    def before_s(self) -> float:
        """What preStop takes at most of the grace period, which includes it."""
        _, _, hook = self.text.partition("preStop:")
        spans = re.findall(r"\b(?:sleep|seq|seconds:)[\"',\s]+[\"']?(\d+)", hook)
        return max(map(float, spans), default=0.0)

    @property
    def grace_s(self) -> tuple[float | None, str]:
        """`(seconds, source)`; None in a Dockerfile. Raises ConfigurationError if it can't be read."""
        found = re.findall(_GRACE, self.text, re.MULTILINE)
        if found:
            return min(_seconds(value) for _, value in found), f"{found[0][0].rstrip(':=')} in {self.name}"
        default_s = _DEFAULT_GRACE_S.get(self.kind)
        return default_s, "" if default_s is None else f"{self.kind}'s default, {self.name} gives none"


def read_manifest(path: Path) -> Manifest:
    """Raises ConfigurationError."""
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigurationError(f"{path} has more than {LARGEST >> 20} MB: no such file that we can read")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {getattr(error, 'strerror', None) or 'is no text'}") from error
    text = re.sub(r"(^|[ \t])#.*$", "", text, flags=re.MULTILINE)
    if re.search(r"^[ \t-]*terminationGracePeriodSeconds:", text, re.MULTILINE):
        return Manifest(path.name, "Kubernetes", text)
    for kind, begin in _KINDS.items():
        if begin.search(text):
            return Manifest(path.name, kind, text)
    raise ConfigurationError(
        f"{path} is no Kubernetes manifest, systemd unit, compose file or Dockerfile that we can read"
    )


def check_manifest(manifest: Manifest, keys: Collection[str]) -> Iterator[Finding]:
    """What will hurt in it. `keys`: of the App's queues, in Redis; empty without an App."""
    checks = {"systemd": _systemd, "Kubernetes": _kubernetes, "compose": _compose, "Dockerfile": _dockerfile}
    found = [*_anywhere(manifest)]
    for document in re.split(r"^---", manifest.text, flags=re.MULTILINE):
        found += checks[manifest.kind](attrs.evolve(manifest, text=document))
    if manifest.kind == "Kubernetes":
        found += [*_scaler(manifest, keys)]
    yield from found or [Finding(CHECK, "ok", f"nothing wrong is seen in {manifest.name}")]


def _problem(text: str, advice: str) -> Finding:
    return Finding(CHECK, "problem", text, advice)


def _warning(text: str, advice: str) -> Finding:
    return Finding(CHECK, "warning", text, advice)


def _anywhere(its: Manifest) -> Iterator[Finding]:
    if any(re.search(r"(?<!exec )\btrioworkers\b", command) for command in _SHELL.findall(its.text)):
        yield _problem(
            "a shell starts the worker, and keeps the signals that stop it", "name trioworkers directly, or `exec` it"
        )
    for name in ("KillSignal", "stop_signal", "STOPSIGNAL"):
        number = its.value(name) or (next(iter(_STOPSIGNAL.findall(its.text)), None) if name == "STOPSIGNAL" else None)
        if number is not None and number.upper() not in _STOPPING:
            yield _problem(f"{name} is {number}, which stops no worker in good order", "SIGTERM")


def _systemd(its: Manifest) -> Iterator[Finding]:
    several = its.option("--processes") is not None
    if its.value("Type") in ("notify", "notify-reload") and not several:
        yield _problem(
            "Type=notify waits for ever: only `--processes` tells systemd that it is ready",
            "--processes 1, or Type=exec",
        )
    elif its.value("WatchdogSec") not in (None, "0") and not several:
        yield _problem(
            "WatchdogSec kills the worker: only `--processes` feeds the watchdog", "--processes 1, or no WatchdogSec"
        )
    if several and its.value("KillMode") in (None, "control-group"):
        yield _problem(
            "KillMode=control-group stops each process twice, itself and by way of the parent: the second one cancels running jobs at once",
            "KillMode=mixed",
        )
    if its.value("Restart") in (None, "no"):
        yield _warning("a worker that crashes stays away: there is no Restart=", "Restart=on-failure")


def _kubernetes(its: Manifest) -> Iterator[Finding]:
    probes = _PROBE.findall(its.text)
    if wrong := [path for kind, _, path, _ in probes if kind == "liveness" and path != "live"]:
        yield _problem(
            f"livenessProbe asks for /{wrong[0]}: workers are killed while Redis is away, or when they are told to be quiet",
            "path: /live",
        )
    health = its.option("--health")
    if health is None and probes:
        yield _problem("probes ask, and no `--health` answers", '"--health", ":7433"')
    if health is not None:
        yield from _health(its, health, {port or after for _, port, _, after in probes} - {""})
    if its.option("--processes") == "auto" and not re.search(
        r"limits:[^}\n]{0,300}\bcpu:|limits:\s{1,80}(memory:[^\n]{0,80}\n\s{0,80})?cpu:", its.text
    ):
        yield _warning(
            "--processes auto without a limit of cpu is one process for each core of the node",
            "a number, or limits: {cpu: …}",
        )
    if re.search(r"shareProcessNamespace:\s*true", its.text) and re.search(r"kill\s+-\S+\s+1\b", its.text):
        yield _problem(
            "process 1 is not the worker with shareProcessNamespace, so preStop's signal goes nowhere",
            "leave shareProcessNamespace out",
        )
    yield from _same_id(its, its.value("replicas"))


def _health(its: Manifest, health: str, asked: Collection[str]) -> Iterator[Finding]:
    host, _, port = health.rpartition(":")
    if host in ("127.0.0.1", "localhost", "[::1]"):
        yield _problem(f"--health {health} answers inside the pod only, probes come from outside", f"--health :{port}")
    named = dict(re.findall(r"name:\s*[\"']?([\w-]+)[\"']?\s*,?\s*containerPort:\s*(\d+)", its.text))
    if wrong := sorted(each for each in asked if named.get(each, each) != port and (each in named or each.isdigit())):
        yield _problem(
            f"probes ask at port {named.get(wrong[0], wrong[0])}, --health answers at {port}", "the same port in both"
        )


def _scaler(its: Manifest, keys: Collection[str]) -> Iterator[Finding]:
    if its.value("minReplicaCount") == "0":
        yield _warning(
            "without any worker nobody moves jobs out of `schedule` and `retry`, so nothing scales up for them",
            "minReplicaCount: 1",
        )
    key = its.value("listName")
    if key is not None and keys and key not in keys:
        yield _problem(f"the scaler looks at {key}, where none of the App's queues is", f"listName: {next(iter(keys))}")


def _compose(its: Manifest) -> Iterator[Finding]:
    if re.search(r"image:\s*[\"']?\S{0,300}(redis|valkey)", its.text):
        if not re.search(r"appendonly[\"',=\s]+(-\s+)?[\"']?yes", its.text):
            yield _warning(
                "this Redis keeps nothing, or little, on disk: a restart loses jobs", "--appendonly yes, and a volume"
            )
        policy = re.search(r"maxmemory-policy[\"',=\s]+(?:-\s+)?[\"']?([\w-]+)", its.text)
        if policy and policy[1] != "noeviction":
            yield _problem(f"maxmemory-policy {policy[1]} throws jobs away when memory is full", "noeviction")
    if its.value("restart") in (None, "no"):
        yield _warning("what crashes stays away: there is no restart:", "restart: unless-stopped")
    yield from _same_id(its, its.value("replicas") or its.value("scale"))


def _same_id(its: Manifest, replicas: str | None) -> Iterator[Finding]:
    process_id = its.option("--process-id")
    if process_id is not None and "$" not in process_id and replicas not in (None, "0", "1"):
        yield _problem(
            f"{replicas} workers have the process id {process_id}: all but the first refuse to start",
            "leave --process-id out, or let it come from the pod's name",
        )


def _dockerfile(its: Manifest) -> Iterator[Finding]:
    for name, command in re.findall(r"^(ENTRYPOINT|CMD)\s+(.*)$", its.text, re.MULTILINE):
        if not command.startswith("[") and "trioworkers" in command and not command.startswith("exec "):
            yield _problem(
                f"{name} without brackets starts a shell, which keeps the signals that stop the worker",
                f'{name} ["trioworkers", …]',
            )


def _seconds(text: str) -> float:
    text = text.strip().strip("\"'")
    if text == "infinity":
        return float("inf")
    parts = _SPAN.findall(text)
    if not parts or "".join(re.split(_SPAN, text)[::3]).strip():
        raise ConfigurationError(f"{text!r} is no length of time that we can read")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
