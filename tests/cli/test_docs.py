"""docs/cli.md is written from the commands, is current, and says what they share only once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from trioworkers.cli.commands import every_command
from trioworkers.cli.docs import page


def test_documentation_is_current():
    written = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text()
    assert written == page(), "run `make docs`"


def test_what_many_commands_share_is_said_once_and_every_option_is_named_where_it_is_taken():
    rows = Counter(line for line in page().splitlines() if line.startswith("| `--"))
    assert [row for row, count in rows.items() if count > 2] == []
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page(), re.MULTILINE | re.DOTALL))
    for name, command in every_command().items():
        for option in (parameter for parameter in command.params if parameter.param_type_name == "option"):
            assert option.name == "help" or f"`{option.opts[0]}" in sections[name]
