"""Messages to the service manager over the socket $NOTIFY_SOCKET (sd_notify(3)). Without one, all are no-ops."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping

import structlog

_log = structlog.get_logger(__name__)


class Notifier:
    """Sends states. `address` is a path or, with a leading "@", an abstract name; empty: nobody listens.

    A service manager that went away never fails the service: the first error is logged, the message dropped.
    """

    def __init__(self, address: str = "", *, watchdog_seconds: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._complained = False
        self.watchdog_seconds = watchdog_seconds
        """The manager kills the service after this time without WATCHDOG=1; 0 means never."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, pid: int | None = None) -> "Notifier":
        """Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. A malformed address or time counts as absent."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            address = ""
        watchdog_pid = environment.get("WATCHDOG_PID", "")
        meant_for_us = watchdog_pid in ("", str(os.getpid() if pid is None else pid))
        microseconds = environment.get("WATCHDOG_USEC", "")
        usable = address and meant_for_us and microseconds.isdecimal() and microseconds.isascii()
        return cls(address, watchdog_seconds=int(microseconds) / 1e6 if usable else 0.0)

    def ready(self) -> None:
        """The service is synced and serves."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The service began to stop."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + text.replace("\n", " "))

    def alive(self) -> None:
        """Feeds the watchdog."""
        self._send("WATCHDOG=1")

    @contextlib.asynccontextmanager
    async def watchdog(self) -> AsyncIterator[None]:
        """Feeds the watchdog from the event loop, at half its time, while the block runs: a stuck loop gets killed."""
        if self.watchdog_seconds <= 0:
            yield
            return
        task = asyncio.create_task(self._feed(), name="watchdog")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _feed(self) -> None:
        while True:
            self.alive()
            await asyncio.sleep(self.watchdog_seconds / 2)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                out.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                _log.warning("service manager unreachable", address=self._address.replace("\0", "@"), error=str(error))
