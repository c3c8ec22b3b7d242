"""Finds the App that a TARGET names. Their mistakes are shown with their traceback, not with ours."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from trioworkers.app import App
from trioworkers.cli.module_files import check_own, import_file
from trioworkers.errors import ConfigurationError, NotFound, WrongUsage
from trioworkers.jobs.importing import imported_for_its_app
from trioworkers.tracebacks import format_error, their_frames


def load_app(target: str) -> App:
    """The App at `module:attribute`, `module` (its only App) or `file.py`. Raises WrongUsage, NotFound if there is no such file or module, else ConfigurationError.

    Exits with status 1 after showing the traceback if the module itself fails; with its own if it exits with one that is not 0.
    """
    where, _, attribute = target.partition(":")
    if not where:
        raise WrongUsage(f"{target!r} names no module: use MODULE:ATTRIBUTE, like handlers:app")
    if where.startswith(".") and not where.endswith(".py"):  # Python would take it for a name within a package
        raise WrongUsage(f"{target!r} names no module: use a file, like app.py, or a module, like shop.jobs")
    sys.path.insert(0, str(Path.cwd()))
    module = _import(where, target)
    if attribute:
        return _attribute(module, attribute, target)
    apps = {id(value): value for value in vars(module).values() if isinstance(value, App)}
    if not apps:
        raise ConfigurationError(f"{target!r} has no App")
    if len(apps) != 1:
        raise ConfigurationError(f"{target!r} has {len(apps)} Apps: say which, as {where}:NAME")
    return next(iter(apps.values()))


def _import(where: str, target: str) -> ModuleType:
    try:
        with imported_for_its_app(target):
            if where.endswith(".py"):
                return import_file(Path(where))
            module = importlib.import_module(where)
        check_own(module, target)
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(f"{error.name}.")):
            raise NotFound(f"there is no module {error.name!r} (looked for {target!r} from here)") from None
        _show(error)
    except NotFound:
        raise
    except ConfigurationError as error:
        where = _last_line_of_theirs(error)
        raise ConfigurationError(f"{error} ({where})" if where else str(error)) from None
    except (Exception, GeneratorExit, SystemExit) as error:  # noqa: BLE001 - their module may raise anything; a status of 0 would say that all is done
        _show(error)
    return module


def _attribute(module: ModuleType, attribute: str, target: str) -> App:
    value: object = module
    for name in attribute.split("."):
        if not hasattr(value, name):
            known = sorted(key for key, item in vars(module).items() if isinstance(item, App))
            hint = f"; it has {', '.join(known)}" if known else "; it has no App"
            raise ConfigurationError(f"{target!r}: module {module.__name__!r} has no {name!r}{hint}")
        value = getattr(value, name)
    if not isinstance(value, App):
        raise ConfigurationError(f"{target!r} is a {type(value).__name__}, not an App")
    return value


def _last_line_of_theirs(error: BaseException) -> str:
    frames = their_frames(error)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _show(error: BaseException) -> NoReturn:
    shown = format_error(error) or "".join(traceback.format_exception_only(error)).rstrip()
    sys.stderr.write(f"{shown}\n")
    sys.stderr.write("trioworkers: your module can't be imported, see above\n")
    own = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
    sys.exit(own % 256 or 1)  # as much of it as a status holds
