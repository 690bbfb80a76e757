"""Processes of the lab, started the way a service manager starts them: readiness by notification, logs in files."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class ProcessError(RuntimeError):
    """A process ended or stayed silent when it should have become ready; the text ends with its last log lines."""


class Process:
    """One process that can be started, killed and started again with the same arguments."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
        notifies: bool = True,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.log_path = directory / "logs" / f"{name}.log"
        self._notify_path = directory / "notify" / f"{name}.sock"
        self._env = dict(env or {})
        self._notifies = notifies
        self._socket: socket.socket | None = None
        self._ready = False
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._popen is None:
            raise ProcessError(f"{self.name} was not started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start it; the log file is appended to, so that it tells the whole story of several lives."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **self._env}
        if self._notifies:
            self._open_notify_socket()
            env["NOTIFY_SOCKET"] = str(self._notify_path)
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )

    def _open_notify_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._notify_path.parent.mkdir(parents=True, exist_ok=True)
        self._notify_path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._notify_path))
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether it has said READY=1 since its last start."""
        while self._hear(0.0):
            pass
        return self._ready

    def _hear(self, seconds: float) -> bool:
        """Take one notification; False if none comes within the time."""
        if self._socket is None:
            raise ProcessError(f"{self.name} does not notify")
        readable, _, _ = select.select([self._socket], [], [], seconds)
        if readable:
            self._ready |= b"READY=1" in self._socket.recv(65536).split(b"\n")
        return bool(readable)

    def wait_ready(self, timeout: float = 60) -> float:
        """Wait for READY=1 and return the seconds it took."""
        begin = time.monotonic()
        while (left := begin + timeout - time.monotonic()) > 0:
            if self.ready:
                return time.monotonic() - begin
            self._hear(min(left, 0.2))
            if not self.running:
                raise ProcessError(f"{self.name} ended with {self._returncode()}\n{self.log_tail()}")
        raise ProcessError(f"{self.name} was not ready after {timeout:.0f} s\n{self.log_tail()}")

    def _returncode(self) -> int | None:
        return None if self._popen is None else self._popen.returncode

    def kill(self) -> None:
        """End it at once, without a chance to clean up."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
            self.wait_ended()

    def stop(self, timeout: float = 15) -> int | None:
        """End it politely; kill it if it does not listen. Returns the exit code."""
        if self.running:
            os.kill(self.pid, signal.SIGTERM)
            try:
                self.wait_ended(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        return self._returncode()

    def wait_ended(self, timeout: float = 10) -> None:
        """Wait until it has ended by itself or by a signal. Raises subprocess.TimeoutExpired."""
        assert self._popen is not None
        self._popen.wait(timeout)

    def log_size(self) -> int:
        """Length of the log in bytes, for `log_since`."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log_since(self, start: int = 0) -> str:
        """What was logged after the log had the given size."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = 15) -> str:
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


def cpu_seconds(pid: int) -> float:
    """User plus system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
