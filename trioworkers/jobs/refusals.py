"""What is told of a value that doesn't fit: which field, and the rule that it breaks; never the value.

Arguments are passwords, addresses, letters. Errors go into the log and into the payload, where many may read them. So of msgspec's and
pydantic's own rules the words are taken, of everybody else's only the error's class.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from typing import Any, get_args

import attrs
import msgspec

from trioworkers.wording import counted

MAX_LENGTH = 300
MAX_PROBLEMS = 3
MAX_LISTED = 1000

_WITHOUT_VALUES = (
    "Expected `",
    "Object missing required field",
    "Integer value",
    "Number out",
    "Duration is",
    "Only units",
)
_KINDS = ("RFC3339", "UUID", "ISO8601", "base64", "decimal", "epoch")
"""Of msgspec's messages: those that quote nothing of the value, and what "Invalid …" may go on with."""

_QUOTING = frozenset({"error", "tag", "input_value", "reason"})
"""What pydantic's messages are filled with that comes from the value, or from others' code."""


def told(error: Exception, names: Collection[str]) -> str:
    """The field and the rule. `names`: of fields that pydantic may name; others may be keys of a stranger."""
    if _is_of_pydantic(error):
        return _of_pydantic(error, names)
    if not isinstance(error, msgspec.ValidationError):
        return "nested too deep" if isinstance(error, RecursionError) else _of_others(error, "")
    cause = error.__cause__
    if isinstance(cause, Exception):
        where = _path(str(error)[len(str(cause)) :])
        return f"{_of_pydantic(cause, names)}{where}" if _is_of_pydantic(cause) else _of_others(cause, where)
    trace = error.__traceback__
    if trace is not None and trace.tb_next is not None:
        return _of_others(error, "")  # raised by the user's own code, under our call
    return _of_msgspec(str(error))


# ── msgspec ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_msgspec(message: str) -> str:
    """Turns "Expected `int`, got `str` - at `$.id`" into our words."""
    if message.startswith("Object contains unknown field"):
        return "a field that isn't known"  # its name is a stranger's, and could be made to look like a path
    rule, mark, path = message.rpartition(" - at `")
    if not mark or not path.endswith("`"):  # a whole that is wrong has none; what looks like one is in the quoted value
        rule, path = message, ""
    where = _path(path)
    if rule.startswith(_WITHOUT_VALUES) or rule.removeprefix("Invalid ").startswith(_KINDS):
        rule = rule[:1].lower() + rule[1:MAX_LENGTH].replace("`", "")
        return f"{rule}{where}"
    return f"none of the values that are allowed{where}"


def _path(text: str) -> str:
    """Turns " - at `$.id`", or its end, into ", in field id"; the whole has no path."""
    path = text.removeprefix(" - at ").replace("`", "")
    if path.startswith("key in "):
        return f", in a key{_path(path.removeprefix('key in '))}"
    path = path.removeprefix("$").removeprefix(".")
    return f", in field {path[:MAX_LENGTH]}" if path else ""


def _of_others(error: BaseException, where: str) -> str:
    field = _validated_field(error)
    if field is not None:
        return f"refused by the validator of field {field} ({_class_name(error)}){where}"
    return f"refused by its class ({_class_name(error)}){where}"


def _class_name(error: BaseException) -> str:
    return str(getattr(type(error), "__name__", "an error"))[:MAX_LENGTH]


def _validated_field(error: BaseException) -> str | None:
    """The field whose validator raised `error`: attrs hands each its Attribute, which some give to their error, too."""
    trace, depth = error.__traceback__, 0
    while trace is not None and depth < 20:
        for local in trace.tb_frame.f_locals.values():
            if isinstance(local, attrs.Attribute):
                return local.name
        trace, depth = trace.tb_next, depth + 1
    return None


# ── pydantic ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_of_pydantic(error: BaseException) -> bool:
    core = sys.modules.get("pydantic_core")
    return core is not None and isinstance(error, core.ValidationError)


def _of_pydantic(error: Any, names: Collection[str]) -> str:
    count = error.error_count()
    if count > MAX_LISTED:  # to list a million takes seconds, and the first can't be had alone
        return f"{counted(count, 'problem')} of its fields or items"
    problems = error.errors(include_url=False, include_input=False)
    shown = [_problem(one, names) for one in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        shown.append(f"{len(problems) - MAX_PROBLEMS} more")
    return "; ".join(shown)


def _problem(problem: Any, names: Collection[str]) -> str:
    where = ".".join(_places(problem["loc"], names))
    rule = problem["type"].replace("_", " ")
    if problem["type"] in _known_rules() and not _QUOTING & problem.get("ctx", {}).keys():
        rule = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{rule[:MAX_LENGTH]}, in field {where[:MAX_LENGTH]}" if where else rule[:MAX_LENGTH]


def _places(path: Iterable[object], names: Collection[str]) -> list[str]:
    return [str(place) if isinstance(place, int) or place in names else "…" for place in list(path)[:10]]


def _known_rules() -> Collection[str]:
    """Pydantic's own; what others name so themselves says what they like."""
    from pydantic_core.core_schema import ErrorType  # noqa: PLC0415 - who gets here has it

    return get_args(ErrorType)
