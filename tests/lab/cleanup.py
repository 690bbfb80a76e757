"""Removal of a lab that an earlier run left behind, whatever state it is in."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from tests.lab.namespace import Namespace, run

_PATIENCE = 15.0


def command_line(pid: int) -> str:
    """Command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def remove(namespaces: Iterable[Namespace], more_pids: Iterable[int] = ()) -> tuple[int, int]:
    """End the processes inside and `more_pids`, delete the namespaces; returns how many there were of each."""
    present = [namespace for namespace in namespaces if namespace.exists()]
    pids = {pid for namespace in present for pid in namespace.pids()} | set(more_pids)
    for pid in pids:
        run(["kill", str(pid)], check=False)
    deadline = time.monotonic() + _PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in pids:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)
    for namespace in present:
        namespace.delete()
    return len(present), len(pids)
