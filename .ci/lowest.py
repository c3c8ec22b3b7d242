"""The lowest allowed versions of what we depend on directly, as constraints for pip: `python .ci/lowest.py > constraints.txt`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in [*project["dependencies"], *project["optional-dependencies"]["embedded"]]:
    bound = re.fullmatch(r"([\w-]+)>=([\w.]+)(,<[\w.]+)?", requirement)
    if bound is None:
        sys.exit(f"{requirement}: a requirement is NAME>=LOWEST, or NAME>=LOWEST,<NEXT")
    sys.stdout.write(f"{bound[1]}=={bound[2]}\n")
