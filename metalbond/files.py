"""Files that may change while the program runs."""

from __future__ import annotations

from pathlib import Path

Fingerprint = tuple[tuple[int, int, int] | None, ...]


def fingerprint(*paths: Path) -> Fingerprint:
    """What changes when one of the files is rewritten or replaced: time, inode, size; None if it is not there."""
    return tuple(_one(path) for path in paths)


def _one(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
