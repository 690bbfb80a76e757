"""Who holds an election key, and whether that process certainly runs no more.

A lease tells that its holder is gone only when its time is over. The kernel of the holder's own machine knows at once,
and whoever holds the lock of a private store's directory knows that the server before it is gone. Anything less than
such a proof is no reason to take a key away. A wrong one (a machine that was copied while it ran) would cost a live
leader its term and nothing else: its writes are fenced.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
# Position of the start time in /proc/<pid>/stat, counted from after the name, which may contain anything.
_STARTED: Final = 19


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process of one machine, for as long as that is not booted again.

    scope:   boot id and namespaces in which the numbers have a meaning.
    pid:     process id.
    started: clock ticks from boot to its start, which tell it from a later process with its id.
    """

    scope: str
    pid: int
    started: int

    @classmethod
    def own(cls) -> ProcessId | None:
        """This process; None where /proc is missing or another PID namespace's."""
        try:
            if (_PROC / "self").readlink().name != str(os.getpid()):
                return None
            boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
            namespaces = [(_PROC / "self/ns" / kind).readlink().name for kind in ("pid", "time")]
        except OSError:
            return None
        started = _started(os.getpid())
        return None if started is None else cls(" ".join((boot, *namespaces)), os.getpid(), started)


@dataclass(frozen=True, slots=True)
class Holder:
    """Value of an election key.

    identity:  name for operators, different for each process.
    process:   where it runs; None if unknown.
    sole_user: it has the lock of the store's directory, which one process at a time can have.
    """

    identity: str
    process: ProcessId | None = None
    sole_user: bool = False

    def encode(self) -> bytes:
        """Value of the key."""
        fields: dict[str, object] = {"identity": self.identity, "sole_user": self.sole_user}
        if self.process is not None:
            fields |= {"scope": self.process.scope, "pid": self.process.pid, "started": self.process.started}
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, value: bytes) -> Holder:
        """The holder of a key's value. A value that is something else is an identity about which nothing is known."""
        try:
            fields = json.loads(value)
            process = ProcessId(str(fields["scope"]), int(fields["pid"]), int(fields["started"]))
            known = process if 0 < process.pid < 1 << 31 else None
            return cls(str(fields["identity"]), known, fields["sole_user"] is True)
        except KeyError:
            return cls(str(fields.get("identity", "")), None, fields.get("sole_user") is True)
        except (ValueError, TypeError):
            return cls(value.decode(errors="replace"))

    async def wait_ended(self, judge: Holder) -> str:
        """What proves that this holder runs no more, as soon as ``judge``, a process that wants the key, can know it.

        Never returns if that cannot be known.
        """
        if self.sole_user and judge.sole_user and self.identity != judge.identity:
            return "its lock of the store's directory is free"
        if self.process is None or judge.process is None or self.process.scope != judge.process.scope:
            await _forever()
        else:
            await _wait_process_ended(self.process)
        return "its process has ended"


async def _wait_process_ended(process: ProcessId) -> None:
    """For a process in the scope of this one."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except OSError:  # forbidden here, or the number is a thread's now
        if not _is_another(process):
            await _forever()
        return
    try:
        if not _is_another(process):
            await _readable(descriptor)
    finally:
        os.close(descriptor)


async def _forever() -> None:
    await asyncio.Event().wait()


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)


def _is_another(process: ProcessId) -> bool:
    """Whether the id has certainly been given to another process."""
    return _started(process.pid) not in (process.started, None)


def _started(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; None if it is gone or hidden."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
        return int(text.rpartition(")")[2].split()[_STARTED])
    except (OSError, ValueError, IndexError):
        return None
