"""Writes a run's results into the documentation: figures as JSON, the picture, and the tables between the page's markers."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

from benchmarks.contestants import HERE
from benchmarks.plot import svg
from benchmarks.report import between_markers, page
from benchmarks.results import Results
from benchmarks.store import server_program

DOCS = HERE.parent / "docs"
PAGE, FIGURES, PLOT = DOCS / "performance.md", DOCS / "performance.json", DOCS / "performance.svg"


def publish(results: Results) -> None:
    """Write all three."""
    results.save(FIGURES)
    PLOT.write_text(svg(results))
    PAGE.write_text(between_markers(PAGE.read_text(), page(results, PLOT.name)))
    print(f"wrote {', '.join(str(path.relative_to(HERE.parent)) for path in (PAGE, PLOT, FIGURES))}")


def describe_machine() -> dict[str, str]:
    """What the figures depend on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    server = subprocess.run([server_program(), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\S+)", server)
    return {
        "Measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "Processor": f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores for worker, Redis, sink and harness",
        "System": f"Linux {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "Redis": f"{found.group(1) if found else 'unknown'}, on the same machine, without persistence",
        "Load before the run": f"{os.getloadavg()[0]:.1f}",
    }
