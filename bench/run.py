"""Runs the benchmarks one after the other and keeps what they printed under bench/results/.

Each benchmark is a program that prints one JSON document on its standard output; this runner adds where it ran. What
is worth keeping is written into bench/RESULTS.md by hand, with the method.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"

COMMANDS = {
    "dataplane": ["bench/dataplane.sh"],
    "store": [sys.executable, "bench/store.py"],
    "apiserver": [sys.executable, "bench/apiserver.py"],
    "metalbond": [sys.executable, "bench/metalbond_routes.py"],
}


def machine() -> dict[str, object]:
    """What a reader must know to compare: processor, cores, kernel, Python."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def run(name: str) -> bool:
    """Run one benchmark; returns whether it printed a result."""
    print(f"==> {name}", flush=True)
    done = subprocess.run(COMMANDS[name], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="")
    try:
        result = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        print(f"==> {name} printed no result: {error}", file=sys.stderr)
        return False
    if done.returncode != 0:
        print(f"==> {name} failed with exit code {done.returncode}", file=sys.stderr)
        return False
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": machine(), "result": result}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    return True


def main() -> int:
    names = sys.argv[1:] or list(COMMANDS)
    unknown = [name for name in names if name not in COMMANDS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    failed = [name for name in names if not run(name)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
