"""Guests: namespaces whose only device is the cable that the machine provider plugs in, configured by a DHCP client."""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.cleanup import remove
from tests.lab.namespace import Namespace, run
from tests.lab.process import Process

DEVICE = "eth0"

_DHCPCD_CONF = """\
noipv4ll
ipv6rs
ia_na 1
option classless_static_routes, interface_mtu, domain_name_servers
option dhcp6_name_servers
"""


@dataclass(frozen=True)
class PingResult:
    sent: int
    received: int
    # Milliseconds; 0 if nothing came back.
    average_ms: float

    @property
    def lost(self) -> int:
        return self.sent - self.received


@dataclass
class Guest:
    """One guest. Its DHCP client runs in the foreground with files of its own, so that many can share a machine."""

    name: str
    namespace: Namespace
    directory: Path
    dhcp: Process | None = field(default=None, init=False)

    def create(self) -> None:
        self.namespace.create()

    def plug(self, host: Namespace, device: str) -> None:
        """Move the guest end of a hypervisor's device into the guest, as a machine provider gives it to a machine."""
        host.ip("link", "set", f"{device}g", "netns", self.namespace.name, "name", DEVICE)
        self.namespace.exec("ethtool", "-K", DEVICE, "tx", "off", "gro", "off")
        self.namespace.ip("link", "set", DEVICE, "up")

    def unplug(self, host: Namespace, device: str) -> None:
        """Give the device back to the hypervisor."""
        self.namespace.ip("link", "set", DEVICE, "netns", host.name, "name", f"{device}g")

    @property
    def home(self) -> Path:
        """Files of this guest."""
        home = self.directory / "guests" / self.name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def reboot(self, host: Namespace, device: str) -> None:
        """Become a machine that was just switched on: the same device, nothing configured, nothing remembered."""
        self.unplug(host, device)
        self.delete()
        shutil.rmtree(self.home)
        self.create()
        self.plug(host, device)

    def client(self, name: str, command: str) -> Process:
        """A DHCP client in the foreground; host name, /etc/resolv.conf and dhcpcd's files are the guest's own."""
        for private in ("run", "lib"):
            (self.home / private).mkdir(exist_ok=True)
        (self.home / "resolv.conf").touch()
        script = (
            "mkdir -p /run/dhcpcd && "
            f"mount --bind {self.home}/run /run/dhcpcd && mount --bind {self.home}/lib /var/lib/dhcpcd && "
            f"mount --bind {self.home}/resolv.conf /etc/resolv.conf && exec {command}"
        )
        argv = [*self.namespace.prefix(), "unshare", "--mount", "--uts", "sh", "-c", script]
        return Process(f"{name}-{self.name}", argv, self.directory, notifies=False)

    def start_dhcp(self) -> None:
        """Start dhcpcd for both families."""
        config = self.home / "dhcpcd.conf"
        config.write_text(_DHCPCD_CONF)
        self.dhcp = self.client("dhcp", f"dhcpcd -B -d -f {config} {DEVICE}")
        self.dhcp.start()

    def name_servers(self) -> set[str]:
        """Those in its resolv.conf."""
        return set(re.findall(r"^nameserver (\S+)$", (self.home / "resolv.conf").read_text(), re.MULTILINE))

    def default_router(self, family: str) -> str:
        """Where its default route leads; empty without one. family: "ipv4" or "ipv6"."""
        version = family.replace("ipv", "-")
        routes = json.loads(self.namespace.ip("-j", version, "route", "show", "default", "dev", DEVICE))
        return str(routes[0].get("gateway", "")) if routes else ""

    def wait_address(self, address: str, timeout: float = 30) -> float:
        """Wait until the guest has an address, usable; returns the seconds it took."""
        wanted = ipaddress.ip_address(address)
        begin = time.monotonic()
        while time.monotonic() - begin < timeout:
            if wanted in self.addresses():
                return time.monotonic() - begin
            time.sleep(0.1)
        log = self.dhcp.log_tail() if self.dhcp else ""
        raise TimeoutError(f"{self.name} did not get {address} within {timeout:.0f} s\n{log}")

    def addresses(self) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
        links = json.loads(self.namespace.ip("-j", "addr", "show", "dev", DEVICE))
        return {
            ipaddress.ip_address(info["local"])
            for link in links
            for info in link.get("addr_info", [])
            if not info.get("tentative")
        }

    def has_addresses(self) -> bool:
        """Whether it has an address beyond its link."""
        return any(not address.is_link_local for address in self.addresses())

    def mtu(self) -> int:
        return int(self._link()["mtu"])

    def link_index(self) -> int:
        """Number of its device, which changes if the device is replaced."""
        return int(self._link()["ifindex"])

    def _link(self) -> dict[str, Any]:
        links: list[dict[str, Any]] = json.loads(self.namespace.ip("-j", "link", "show", "dev", DEVICE))
        return links[0]

    def ping(self, address: str, *, count: int = 5, size: int = 56, patience: int = 5) -> PingResult:
        """Send requests at once and wait for all replies, at most `patience` seconds after the last one."""
        # ping waits for -W seconds before the first reply, and for an interval after one.
        how = f"-n -q -c {count} -l {count} -i {patience} -W {patience} -s {size}"
        words = ["ping", *how.split(), address]
        return parse_ping(self.namespace.exec(*words, check=False, timeout=patience + 15))

    def wait_reachable(self, address: str, timeout: float = 20) -> None:
        """Ping until the first reply."""
        deadline = time.monotonic() + timeout
        while self.ping(address, count=1, patience=1).received == 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} did not reach {address} within {timeout:.0f} s")

    def start_ping(self, address: str, *, rate: int) -> BackgroundPing:
        """Ping at a rate (packets/s) until told to stop."""
        argv = [*self.namespace.prefix(), "ping", "-n", "-D", "-O", "-i", str(1 / rate), "-W", "1", address]
        output = self.home / f"ping-{time.monotonic_ns()}.txt"
        with output.open("wb") as file:
            popen = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        return BackgroundPing(popen, output)

    def iperf(self, server: Guest, address: str, *, seconds: int = 3) -> float:
        """TCP throughput towards another guest, in Gbit/s."""
        listener = subprocess.Popen(
            [*server.namespace.prefix(), "timeout", str(seconds + 20), "iperf3", "-s", "-1", "--forceflush"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            assert listener.stdout is not None
            while b"listening" not in listener.stdout.readline():
                if listener.poll() is not None:
                    raise RuntimeError("iperf3 server ended early")
            words = ["iperf3", "-J", "-c", address, "-t", str(seconds), "--connect-timeout", "5000"]
            report = json.loads(self.namespace.exec(*words, timeout=seconds + 30))
            return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9
        finally:
            # timeout(1) hands this on to the server.
            listener.terminate()
            listener.wait(10)

    def delete(self) -> None:
        if self.dhcp is not None:
            self.dhcp.stop()
        # A client that had to be killed leaves its helpers behind.
        remove([self.namespace])

    def mac(self) -> str:
        """Hardware address of its device."""
        return str(self._link()["address"])


def parse_ping(text: str) -> PingResult:
    """Read ping's closing lines."""
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", text)
    if counts is None:
        return PingResult(0, 0, 0.0)
    average = re.search(r"= [\d.]+/([\d.]+)/", text)
    return PingResult(int(counts[1]), int(counts[2]), float(average[1]) if average else 0.0)


class BackgroundPing:
    """A ping that runs while something else happens."""

    def __init__(self, popen: subprocess.Popen[bytes], output: Path) -> None:
        self._popen = popen
        self._output = output

    def stop(self) -> PingResult:
        """Stop it after one more answer, if there is any, and return the totals up to the last answered request."""
        if self._popen.poll() is not None:
            return parse_ping(self._output.read_text())
        before = self.received()
        deadline = time.monotonic() + 2
        while self.received() == before and time.monotonic() < deadline:
            time.sleep(0.01)
        run(["kill", "-INT", str(self._popen.pid)], check=False)
        self._popen.wait(10)
        whole = parse_ping(self._output.read_text())
        answered = self._answered()
        if len(answered) <= before:
            return whole
        # What was sent after the last request that was answered is on its way, not lost.
        return PingResult(max(answered), len(answered), whole.average_ms)

    def received(self) -> int:
        """Requests that were answered until now."""
        return len(self._answered())

    def duplicates(self) -> int:
        return self._output.read_text().count("(DUP!)")

    def wait_received(self, more: int, timeout: float = 30) -> None:
        """Wait for so many more answers."""
        wanted = self.received() + more
        deadline = time.monotonic() + timeout
        while (now := self.received()) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{now} of {wanted} answers after {timeout:.0f} s\n{self._tail()}")
            time.sleep(0.05)

    def _answered(self) -> set[int]:
        return {int(m[1]) for m in re.finditer(r"bytes from .* icmp_seq=(\d+) ", self._output.read_text())}

    def _tail(self) -> str:
        return "\n".join(self._output.read_text().splitlines()[-5:])

    def longest_gap(self) -> float:
        """Longest time between two replies, in seconds."""
        times = [float(m[1]) for m in re.finditer(r"^\[(\d+\.\d+)\] \d+ bytes from", self._output.read_text(), re.M)]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)
