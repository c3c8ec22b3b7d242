"""The peers' own environments: one for each file of pinned requirements, none of it ours."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.contestants import PEERS, VENVS, Contestant

INSTALL_TIMEOUT_S = 600.0


def prepare(contestants: list[Contestant]) -> None:
    """Set up what is not yet; who fails is reported and takes no part."""
    VENVS.mkdir(exist_ok=True)
    for name in sorted({contestant.requirements for contestant in contestants if contestant.requirements}):
        requirements, ready = PEERS / f"{name}.txt", VENVS / name / "ready"
        digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
        if not ready.exists() or ready.read_text() != digest:
            print(f"setting up {name} …", flush=True)
            ready.unlink(missing_ok=True)
            if _install(name, requirements):
                ready.write_text(digest)


def _install(name: str, requirements: Path) -> bool:
    python = VENVS / name / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    log = VENVS / f"{name}.log"
    with log.open("wb") as output:
        for command in ([sys.executable, "-m", "venv", "--clear", str(VENVS / name)], pip):
            try:
                subprocess.run(command, check=True, stdout=output, stderr=output, timeout=INSTALL_TIMEOUT_S)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                print(f"{name} can't be set up ({error}): see {log}", flush=True)
                return False
    return True


def version(contestant: Contestant) -> str:
    """The versions of a contestant's packages, as installed."""
    if contestant.name == "sidekiq":
        program = "require 'sidekiq/version'; print \"sidekiq #{Sidekiq::VERSION}, Ruby #{RUBY_VERSION}\""
        return _output("ruby", "-e", program)
    if contestant.requirements:
        names = ", ".join(map(repr, contestant.packages))
        program = f"from importlib.metadata import version\nprint(', '.join(n + ' ' + version(n) for n in [{names}]))"
        return _output(str(VENVS / contestant.requirements / "bin" / "python"), "-c", program)
    return f"this checkout, at {_output('git', '-C', str(PEERS), 'rev-parse', '--short', 'HEAD')}"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
