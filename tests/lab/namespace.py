"""Network namespaces as hosts: create, run in, wire together, remove."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pyroute2 import netns

T = TypeVar("T")

_ETH_P_ALL = 3


class CommandError(RuntimeError):
    """A command of the lab failed; the text has the command line and what it printed."""


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    timeout: float = 60,
    text_in: str | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its end and return its standard output; env is added to the environment."""
    whole = {**os.environ, **env} if env else None
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, input=text_in, env=whole, check=False)
    if check and done.returncode != 0:
        raise CommandError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@dataclass(frozen=True)
class Namespace:
    """One network namespace of the lab."""

    name: str

    def create(self) -> None:
        """Create it with loopback up and without duplicate address detection, so that addresses work at once."""
        run(["ip", "netns", "add", self.name])
        self.sysctl("net.ipv6.conf.default.accept_dad", "0")
        self.sysctl("net.ipv6.conf.all.accept_dad", "0")
        self.ip("link", "set", "lo", "up")

    def delete(self) -> None:
        run(["ip", "netns", "del", self.name], check=False)

    def exists(self) -> bool:
        names = run(["ip", "netns", "list"]).split("\n")
        return any(line.split()[:1] == [self.name] for line in names)

    def prefix(self) -> list[str]:
        """Words to put before a command so that it runs here."""
        return ["ip", "netns", "exec", self.name]

    def ip(self, *words: str) -> str:
        return run(["ip", "-n", self.name, *words])

    def exec(self, *words: str, check: bool = True, timeout: float = 60) -> str:
        return run([*self.prefix(), *words], check=check, timeout=timeout)

    def sysctl(self, key: str, value: str) -> None:
        self.exec("sysctl", "-q", "-w", f"{key}={value}")

    def call(self, function: Callable[[], T]) -> T:
        """Call a function inside and return what it returns; sockets that it opens stay inside for good."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                # Concerns this thread alone, which ends here.
                netns.setns(self.name)
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter, name=f"in {self.name}")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def packet_socket(self, device: str) -> socket.socket:
        """A socket that sends and receives whole Ethernet frames on a device; receiving gives up after a second."""

        def bind() -> socket.socket:
            packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            packets.bind((device, _ETH_P_ALL))
            packets.settimeout(1)
            return packets

        return self.call(bind)

    def pids(self) -> list[int]:
        """Processes whose network namespace this is."""
        return [int(word) for word in run(["ip", "netns", "pids", self.name], check=False).split()]


def connect(left: Namespace, left_name: str, right: Namespace, right_name: str, *, mtu: int) -> None:
    """Join two namespaces by a veth pair, both ends up.

    Transmit checksum offload is off on both ends: a packet that leaves through AF_PACKET must carry its real checksum,
    because nothing behind the engine would complete a partial one. Without it the kernel does not build
    super-packets either.
    """
    left.ip("link", "add", left_name, "mtu", str(mtu), "type", "veth", "peer", "name", right_name, "netns", right.name)
    right.ip("link", "set", right_name, "mtu", str(mtu))
    for host, device in ((left, left_name), (right, right_name)):
        host.exec("ethtool", "-K", device, "tx", "off", "gro", "off")
        host.ip("link", "set", device, "up")
