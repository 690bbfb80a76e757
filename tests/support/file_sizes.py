"""Fails when a source file has grown past what one can hold in the head."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT = 600
SUFFIXES = {".py", ".cc", ".h", ".proto", ".sh", ".cmake"}
# One contract that is fixed from outside and stays in one file.
EXEMPT = {"proto/ironcore/dpdk/v1/dpdk.proto"}


def too_long(files: list[str]) -> list[tuple[str, int]]:
    """Source files over the limit, with their line counts."""
    found = []
    for name in files:
        path = Path(name)
        if path.suffix in SUFFIXES and name not in EXEMPT and path.is_file():
            lines = path.read_text().count("\n")
            if lines > LIMIT:
                found.append((name, lines))
    return found


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    found = too_long(listed.stdout.splitlines())
    for name, lines in found:
        print(f"{name}: {lines} lines, the limit is {LIMIT}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
