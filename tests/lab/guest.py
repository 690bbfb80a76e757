"""Guests: namespaces whose only device is the cable that the machine provider plugs in, configured by a DHCP client."""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.namespace import Namespace, run
from tests.lab.process import Process

DEVICE = "eth0"

_DHCPCD_CONF = """\
noipv4ll
nohook resolv.conf
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

    def start_dhcp(self) -> None:
        """Start dhcpcd for both families."""
        home = self.directory / "guests" / self.name
        home.mkdir(parents=True, exist_ok=True)
        config = home / "dhcpcd.conf"
        config.write_text(_DHCPCD_CONF)
        for private in ("run", "lib"):
            (home / private).mkdir(exist_ok=True)
        script = (
            "mkdir -p /run/dhcpcd && "
            f"mount --bind {home}/run /run/dhcpcd && mount --bind {home}/lib /var/lib/dhcpcd && "
            f"exec dhcpcd -B -d -f {config} {DEVICE}"
        )
        argv = [*self.namespace.prefix(), "unshare", "-m", "sh", "-c", script]
        self.dhcp = Process(f"dhcp-{self.name}", argv, self.directory, notifies=False)
        self.dhcp.start()

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

    def mtu(self) -> int:
        return int(json.loads(self.namespace.ip("-j", "link", "show", "dev", DEVICE))[0]["mtu"])

    def ping(self, address: str, *, count: int = 5, interval: float = 0.2, size: int = 56) -> PingResult:
        """Ping and wait for the end."""
        words = ["ping", "-n", "-q", "-c", str(count), "-i", str(interval), "-W", "1", "-s", str(size), address]
        return parse_ping(self.namespace.exec(*words, check=False, timeout=count * interval + 15))

    def start_ping(self, address: str, *, rate: int) -> BackgroundPing:
        """Ping at a rate (packets/s) until told to stop."""
        argv = [*self.namespace.prefix(), "ping", "-n", "-D", "-O", "-i", str(1 / rate), "-W", "1", address]
        output = self.directory / "guests" / f"{self.name}-ping-{time.monotonic_ns()}.txt"
        output.parent.mkdir(parents=True, exist_ok=True)
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
        self.namespace.delete()


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
        """Stop it, giving the last reply its time, and return the totals."""
        run(["kill", "-INT", str(self._popen.pid)], check=False)
        self._popen.wait(10)
        return parse_ping(self._output.read_text())

    def received(self) -> int:
        return self._output.read_text().count("bytes from")

    def longest_gap(self) -> float:
        """Longest time between two replies, in seconds."""
        times = [float(m[1]) for m in re.finditer(r"^\[(\d+\.\d+)\] \d+ bytes from", self._output.read_text(), re.M)]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)
