"""The tests on each other Python that this machine has, and with the lowest versions of what we depend on: `python .ci/pythons.py [PYTEST'S OPTIONS]`.

Not all of them: what depends on the interpreter and on libraries shows in the tests of the library, of jobs and of processes. Those of
commands, of other programs, of faults and of the dashboard start hundreds of processes, and run on one Python; so do those of this repository itself
(documents, package, types, expressions, what a job costs). What only asks Redis's scripts is the same on each Python, but not with each Redis client:
it runs with the lowest dependencies as well. Where there are several other Pythons the first of them has these, and the rest have the newest: a run of
its own for each pair would cost minutes and has found nothing that one of the two didn't. Environments are kept in .venvs/.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_OUT = (
    *("tests/cli", "tests/faults", "tests/interop", "tests/web"),
    *(
        f"tests/test_{name}.py"
        for name in (
            "benchmarks",
            "can_fail",
            "changes",
            "costs",
            "exits",
            "expressions",
            "file_names",
            "frameworks",
            "package",
            "pages_commands",
            "pages_python",
            "picture",
            "prices",
            "release_notes",
            "site",
            "tutorial",
            "types",
            "walls",
            "wording",
        )
    ),
)
REDIS_ONLY = (
    *("tests/broker/holds", "tests/broker/people"),
    *(
        f"tests/broker/test_{name}.py"
        for name in ("garbage", "huge", "mixed", "namespace", "neighbours", "pages", "scripts", "settling")
    ),
)
"""Besides, on other Pythons: what is tested there is in Lua."""
ASK = (
    "import sys, sysconfig; print(*sys.version_info[:3]) if sys.implementation.name == 'cpython'"
    " and sys.version_info.releaselevel == 'final' and not sysconfig.get_config_var('Py_GIL_DISABLED') else sys.exit(1)"
)
"""What we run on: released versions with the interpreter's lock."""


def pythons() -> dict[str, str]:
    """A program for each version from 3.11 on, by that: pyenv's, and what is on the PATH."""
    newest: dict[str, tuple[tuple[int, ...], str]] = {}
    for program in candidates():
        asked = subprocess.run([program, "-c", ASK], capture_output=True, text=True, check=False)
        if asked.returncode:  # one of pyenv's stand-ins for what isn't chosen, say
            continue
        version = tuple(map(int, asked.stdout.split()))
        name = f"{version[0]}.{version[1]}"
        if version >= (3, 11) and (name not in newest or version > newest[name][0]):
            newest[name] = version, program
    return {name: program for name, (_, program) in sorted(newest.items(), key=lambda each: each[1][0])}


def candidates() -> Iterator[str]:
    """Programs that may be Pythons."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, pyenv.glob("versions/*/bin/python"))
    for folder in map(Path, os.get_exec_path()):
        if folder.is_dir():
            yield from (str(path) for path in folder.iterdir() if re.fullmatch(r"python3\.\d+", path.name))


def lowest() -> list[str]:
    """What we depend on directly, each at the lowest version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = []
    for requirement in [
        *project["dependencies"],
        *project["optional-dependencies"]["embedded"],
        *project["optional-dependencies"]["sync"],
    ]:
        bound = re.fullmatch(r"([\w-]+)>=([\w.]+)(,<[\w.]+)?", requirement)
        if bound is None:
            sys.exit(f"{requirement}: a requirement is NAME>=LOWEST or NAME>=LOWEST,<NEXT")
        found.append(f"{bound[1]}=={bound[2]}")
    return found


def environment(name: str, program: str, constraints: list[str]) -> str:
    """The Python of an environment with all that the tests need; it is made anew when pyproject.toml has changed."""
    folder = ROOT / ".venvs" / name
    python, ready = str(folder / "bin" / "python"), folder / "ready"
    wanted = f"{program}\n{(ROOT / 'pyproject.toml').read_text(encoding='utf-8')}"
    if not ready.exists() or ready.read_text(encoding="utf-8") != wanted:
        subprocess.run([program, "-m", "venv", "--clear", str(folder)], check=True)
        (folder / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
        install = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-e",
            ".[embedded,sync,dev]",
        ]
        subprocess.run([*install, "-c", str(folder / "constraints.txt")], cwd=ROOT, check=True)
        ready.write_text(wanted, encoding="utf-8")
    return python


def tested(name: str, python: str, *options: str) -> bool:
    """Whether the tests pass there."""
    sys.stdout.write(f"\nPython {name}:\n")
    sys.stdout.flush()
    command = [
        python,
        "-m",
        "pytest",
        "-m",
        "not slow",
        "-n",
        "4",
        "--dist",
        "loadgroup",
        "-q",
        "-o",
        f"cache_dir=.venvs/cache-{name.partition(' ')[0]}",
    ]
    command += [*(f"--ignore={each}" for each in LEFT_OUT), *options]
    if subprocess.run(command, cwd=ROOT, check=False).returncode == 0:
        return True
    sys.stdout.write(
        "\nEach that failed is tried once more by itself. What passes now is unreliable, and to be cured.\n"
    )
    sys.stdout.flush()
    return subprocess.run([*command, "-n", "0", "--lf"], cwd=ROOT, check=False).returncode == 0


def main() -> None:
    """Say which failed, after all have run."""
    options = sys.argv[1:]
    own = "{}.{}".format(*sys.version_info)
    found = pythons()
    others = [name for name in found if name != own]
    held_back = others[0] if len(others) > 1 else next(iter(found))
    failed = []
    for name in others:
        ignored = [f"--ignore={each}" for each in REDIS_ONLY]
        if name != held_back and not tested(name, environment(name, found[name], []), *ignored, *options):
            failed.append(name)
    python = environment("lowest", found[held_back], lowest())
    if not tested(f"{held_back} and {', '.join(lowest())}", python, *options):
        failed.append("lowest")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
