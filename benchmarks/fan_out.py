"""Fan-out against a local sink that answers after 20 ms: our pool beside httpx, httpx2 and aiohttp, in turn, in one run.

`python benchmarks/fan_out.py [--rounds 5] [--json FILE]`. The peers are installed into an environment of their own (`build/`). What is
compared is the CPU time of the client's process per request that succeeded, and the ratios of runs that took place beside each other:
the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = ("httpx", "httpx2", "aiohttp", "trio")
NAMES = ("ours", "our client", "httpx", "httpx, tuned", "httpx2", "httpx2, tuned", "aiohttp")
OURS = ("ours", "our client")
CALLS = 4
OPEN = (12, 100, 400, 1000, 4000)
"""Requests open at once, all the time."""

BURST_JOBS = 1000
TOO_SLOW_BEYOND = 400
"""httpx and httpx2 look at every connection for every request; beyond so many open ones they only cost the reader's patience."""


def peers_python() -> Path:
    folder = HERE.parent / "build" / "fan-out-peers"
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"Installing {', '.join(PEERS)} into {folder} …", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS], check=True)
    return python


@contextmanager
def sink() -> Iterator[str]:
    command = [sys.executable, HERE / "sink.py", "--delay", "0.02"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        process.stdin.close()
        process.stdout.read()


def measure(
    name: str, python: Path, url: str, *, at_once: int, jobs: int, warm_up: int, limit_s: float
) -> dict[str, Any]:
    command = [sys.executable if name in OURS else python, HERE / "fan_out_client.py", name, "--url", url]
    command += ["--at-once", at_once, "--jobs", jobs, "--warm-up", warm_up, "--time-limit", limit_s]
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, check=True, timeout=2 * limit_s + 10
        )
    except subprocess.TimeoutExpired:
        return {"succeeded": 0, "errors": {"never ended": jobs * CALLS}}
    result: dict[str, Any] = json.loads(done.stdout)
    if result["succeeded"]:
        result["cpu_us"] = result["cpu_s"] / result["succeeded"] * 1e6
    return result


def spread(values: list[float], unit: str = "", digits: int = 0) -> str:
    if not values:
        return "—"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f}–{high:.{digits}f})"


def ratios(rounds: list[dict[str, dict[str, Any]]], name: str) -> list[float]:
    """Of the CPU time per request to ours of the same round."""
    pairs = [(r[name].get("cpu_us"), r["ours"].get("cpu_us")) for r in rounds if name in r]
    return [theirs / own for theirs, own in pairs if theirs and own]


def tell(title: str, rounds: list[dict[str, dict[str, Any]]], wanted: dict[str, int]) -> None:
    print(
        f"\n{title}\n{'':15}{'CPU per request':>24}{'× ours':>22}{'succeeded':>14}{'jobs/s':>20}{'worst lag':>22}{'of that CPU':>20}"
    )
    for name in NAMES:
        results = [r[name] for r in rounds if name in r]
        if not results:
            continue
        cpu = spread([r["cpu_us"] for r in results if "cpu_us" in r], " µs")
        ratio = spread(ratios(rounds, name), digits=2)
        succeeded = f"{min(r['succeeded'] for r in results)} of {wanted[name]}"
        speed = spread([r["succeeded"] / CALLS / r["wall_s"] for r in results if r.get("succeeded")])
        lag = spread([r["worst_lag_s"] * 1000 for r in results if "worst_lag_s" in r], " ms")
        busy = spread([r["longest_round_s"] * 1000 for r in results if "longest_round_s" in r], " ms")
        print(f"{name:15}{cpu:>24}{ratio:>22}{succeeded:>14}{speed:>20}{lag:>22}{busy:>20}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every single result there")
    parser.add_argument("--only", help="names, comma separated by /", default="/".join(NAMES))
    options = parser.parse_args()
    python, names = peers_python(), options.only.split("/")
    everything: dict[str, Any] = {}
    with sink() as url:
        for open_requests in OPEN:
            at_once = open_requests // CALLS
            rounds: list[dict[str, dict[str, Any]]] = [{} for _ in range(options.rounds)]
            wanted = {name: CALLS * max(2 * at_once, 100 if name.startswith("httpx") else 500) for name in NAMES}
            for each in rounds:
                for name in names:
                    if name.startswith("httpx") and open_requests > TOO_SLOW_BEYOND:
                        continue
                    jobs = wanted[name] // CALLS
                    each[name] = measure(name, python, url, at_once=at_once, jobs=jobs, warm_up=at_once, limit_s=20)
            everything[f"{open_requests} open"] = rounds
            tell(f"{open_requests} requests open all the time", rounds, wanted)
        rounds = [{} for _ in range(options.rounds)]
        for each in rounds:
            for name in names:
                each[name] = measure(name, python, url, at_once=BURST_JOBS, jobs=BURST_JOBS, warm_up=0, limit_s=30)
        everything["burst"] = rounds
        tell(f"{BURST_JOBS} jobs × {CALLS} calls at once, from cold", rounds, dict.fromkeys(NAMES, BURST_JOBS * CALLS))
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
