"""Under which name a Python file is imported, so that there is one copy of it whoever imports it, and none of another module instead.

A file in a package is imported by its full name, `shop.jobs`, as the package's other modules do; so is one in a plain folder below the
current one. What lies beside it may know it as `jobs`: that is the same module then.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from trioworkers.errors import ConfigurationError, NotFound


def import_file(path: Path) -> ModuleType:
    """The module that a file is. Raises NotFound if there is none, ConfigurationError if its name is another's."""
    if not path.is_file():
        raise NotFound(f"there is no file {str(path)!r}")
    path = path.resolve()
    root, name = _package(path)
    if "." not in name and path.stem != "__init__":  # a package has its name, as its other files have it
        root, name = _below_here(path) or (root, name)
    if "." not in name:
        _check_free(name, path)
        sys.path.insert(0, str(root))
        _check_found(name, path)
        return importlib.import_module(name)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    if str(path.parent) not in sys.path:  # behind all others: `shop/queue.py` must hide no module of Python's own
        sys.path.append(str(path.parent))
    return _imported_once(name, path)


def check_own(module: ModuleType, target: str) -> None:
    """Raise ConfigurationError if a module of that name lies here, but another was imported; or what needs the other now gets this one."""
    name = module.__name__
    hides = name.partition(".")[0] in sys.stdlib_module_names
    here = Path.cwd().joinpath(*name.split("."))
    for mine in (here.with_suffix(".py"), here / "__init__.py"):
        if mine.is_file() and (hides or not _is_of(module, mine)):
            raise ConfigurationError(f"{target!r} is not {str(mine.relative_to(Path.cwd()))!r}: {_taken(name)}")


def _package(path: Path) -> tuple[Path, str]:
    """Where the outermost package of a file lies, and the file's name from there."""
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return (folder, ".".join(parts)) if parts else (path.parent, path.stem)


def _below_here(path: Path) -> tuple[Path, str] | None:
    """The same for a file in plain folders below the current one, if from here that name leads to it."""
    here = Path.cwd().resolve()
    if not path.is_relative_to(here):
        return None
    parts = path.relative_to(here).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        return None
    # Asked of the first part alone, since looking for all of it would import that: a folder without `__init__.py`, that no module goes before.
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(parts[0])
        if (
            len(parts) > 1
            and spec is not None
            and spec.origin is None
            and str(here / parts[0]) in (spec.submodule_search_locations or ())
        ):
            return here, ".".join(parts)
    return None


def _check_free(name: str, path: Path) -> None:
    module = sys.modules.get(name)
    if name in sys.stdlib_module_names or (module is not None and not _is_of(module, path)):
        raise ConfigurationError(f"{path.name} can't be imported: {_taken(name)}")


def _check_found(name: str, path: Path) -> None:
    """Whether that name leads there: a folder `app` with an `__init__.py` goes before the `app.py` beside it."""
    spec = None if name in sys.modules else _spec(name)
    if spec is not None and (spec.origin is None or Path(spec.origin).resolve() != path):
        raise ConfigurationError(
            f"{path.name} can't be imported: {name!r} means {spec.origin} before it; rename one of them"
        )


def _taken(name: str) -> str:
    if name.partition(".")[0] in sys.stdlib_module_names:
        return f"{name!r} is a module of Python's own; rename the file"
    return f"another module is called {name!r} already ({_file_of(sys.modules.get(name))}); rename the file"


def _is_of(module: ModuleType, path: Path) -> bool:
    file = _file_of(module)
    return file is not None and Path(file).resolve() == path.resolve()


def _file_of(module: ModuleType | None) -> str | None:
    return getattr(module, "__file__", None)


def _imported_once(name: str, path: Path) -> ModuleType:
    """Import it by its full name; what lies beside it may import the same by the last part, now or while it is imported."""
    spec = _spec(name)
    if spec is None or spec.loader is None or spec.origin is None or Path(spec.origin).resolve() != path:
        raise ConfigurationError(f"{path.name} can't be imported: {_taken(name)}")
    module = sys.modules.get(name)
    if module is not None:  # by its package
        return module
    module = importlib.util.module_from_spec(spec)
    names = {name} | ({path.stem} - sys.modules.keys() - sys.stdlib_module_names - {"__init__", "__main__"})
    sys.modules.update(dict.fromkeys(names, module))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for each in names:
            sys.modules.pop(each, None)
        raise
    package, _, last = name.rpartition(".")
    setattr(sys.modules[package], last, module)
    return sys.modules.get(name, module)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:  # what has the first part of the name is no package
        if error.name != name:
            raise
        return None
