"""The walls of the house: which room may import what, read from the imports themselves. `docs/internals.md` says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import trioworkers

HOUSE = Path(trioworkers.__file__).parent
FLOORS = (
    ("broker",),
    ("jobs", "http"),
    ("engine",),
    ("process",),
    ("app", "sync", "asyncio", "django", "pytest_plugin", "cli", "web", "observe", "testing", "__init__", "__main__"),
)
"""From the second to the highest: `wire/` and all other files of the package's own folder are the lowest. Who stands on one imports from it and
from those below."""

WALLS = {
    "coredis": ("broker/redis",),
    "anyio": ("broker/redis", "web/connections.py"),  # the second: what anycorn serves is a socket of anyio's
    "redis": ("broker/redis_py.py", "asyncio/opening.py"),
    "httpx": ("http", "jobs/http_call.py"),
    "signal": (
        "process",
        "jobs/compute_child.py",
        "jobs/compute_process.py",
        "cli/dev",
    ),  # what a child inherits; `dev` is a supervisor
    "json": (
        "http",  # bodies of requests
        "broker/people/permissions.py",  # cjson in Redis reads it
        "wire/lenient.py",  # what is not quite JSON
        "cli",  # what people ask for with --json, and its notes to itself
    ),
    "msgspec.json": (
        "wire",
        "cli",
        "dev_note.py",  # what `dev` says of itself
        "jobs/conversion.py",  # annotations' own formats
        "jobs/progress.py",  # how much of a payload it may take
        "exits.py",  # a few fields of ours, at a glance
        "failures.py",  # Sidekiq's backtraces
        "web",  # what is shown of payloads, and the values of boxes
        "printable.py",  # what --json and logs say
    ),
    "trioworkers.broker.people": ("broker/people", "cli", "web", "observe"),
    "prometheus_client": ("observe",),
    "opentelemetry": ("observe",),
    "jinja2": ("web",),
    "anycorn": ("web/serving.py",),
    "trioworkers.broker.fake": ("testing",),
}
"""What only these rooms import."""


PURE = {"trio", "coredis", "anyio", "socket", "subprocess", "random", "threading"}
"""Not on the lowest floor: values in, values out."""
NOT_PURE = ("ticks.py", "identity.py", "aside.py", "loggers.py", "log_records.py", "lookup.py")
"""They read this machine's clock and process table, log from a thread, and look names up, for Redis and for HTTP."""


def path_of(file: Path) -> str:
    return str(file.relative_to(HOUSE))


def floor_of(path: str) -> int:
    top = path.partition("/")[0].removesuffix(".py")
    return next((number for number, names in enumerate(FLOORS, 1) if top in names), 0)


@cache
def imported(file: Path, *, types: bool = True) -> list[str]:
    """All names that a file imports, wherever in it; without `types` not those that only a type checker reads."""
    package = ["trioworkers", *file.relative_to(HOUSE).parts[:-1]]

    def walk(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not types:
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr) == ("msgspec", "json")
        ):
            yield "msgspec.json"
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return [*walk(ast.parse(file.read_text()))]


FILES = {path_of(file): file for file in sorted(HOUSE.rglob("*.py"))}


def under(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def in_room(path: str, room: str) -> bool:
    return path == room or path.startswith(f"{room}/")


@pytest.mark.parametrize("module", WALLS)
def test_only_its_room_imports(module: str):
    found = {path for path, file in FILES.items() if any(under(name, module) for name in imported(file, types=False))}
    assert {path for path in found if not any(in_room(path, room) for room in WALLS[module])} == set()


@pytest.mark.parametrize("module", WALLS)
def test_every_exception_is_needed(module: str):
    """A wall doesn't keep a door that nobody uses."""
    found = {path for path, file in FILES.items() if any(under(name, module) for name in imported(file))}
    assert [room for room in WALLS[module] if not any(in_room(path, room) for path in found)] == []


def test_lower_floors_never_import_higher_ones():
    upward = {
        (path, name)
        for path, file in FILES.items()
        for name in imported(file)
        if under(name, "trioworkers") and floor_of(f"{name.split('.')[1]}.py") > floor_of(path)
    }
    assert upward == set()
    assert floor_of("engine/worker.py") > floor_of("broker/moves.py") > floor_of("wire/job.py") == floor_of("retry.py")


def test_lowest_floor_is_pure():
    impure = {
        (path, name)
        for path, file in FILES.items()
        if floor_of(path) == 0 and path not in NOT_PURE
        for name in imported(file, types=False)
        if any(under(name, each) for each in PURE)
    }
    assert impure == set()


def test_nobody_outside_speaks_to_the_redis_client():
    """A lambda for `Connection.call` gets coredis's client; `Connection.commands` is for everybody."""
    told = [
        path
        for path, file in FILES.items()
        if not in_room(path, "broker/redis") and not in_room(path, "http")  # its calls are others
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "call"
        if any(isinstance(argument, ast.Lambda) for argument in node.args)
    ]
    assert told == []


def test_the_reader_of_imports_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("test_walls.HOUSE", tmp_path)
    room = tmp_path / "wire"
    room.mkdir()
    (room / "x.py").write_text(
        "import a.b\nfrom c import d\nfrom . import e\nfrom ..engine.f import g\n"
        "def h():\n    import i\nif TYPE_CHECKING:\n    import j\nmsgspec.json.decode\n"
    )
    names = ["a.b", "c.d", "trioworkers.wire.e", "trioworkers.engine.f.g", "i", "j", "msgspec.json"]
    assert imported(room / "x.py") == names
    assert imported(room / "x.py", types=False) == [name for name in names if name != "j"]
