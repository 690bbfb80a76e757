"""The demo: build a small region on this machine, use it as a tenant would, check and measure it.

`python -m tests.lab.demo [--keep | down]`; normally started by `./dev demo`.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tests.lab.cleanup import command_line, remove
from tests.lab.guest import Guest, PingResult
from tests.lab.machines import TENANT, MachineProvider, Placement
from tests.lab.process import cpu_seconds
from tests.lab.region import EXAMPLES, GUESTS
from tests.lab.report import Check, Report
from tests.lab.stack import Stack
from tests.lab.topology import GUEST_MTU, Topology

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / ".dev" / "demo"

Places = dict[str, Placement]


class Demo:
    """One run of the demo."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.report = Report(console)
        self.topology = Topology()
        self.stack = Stack(self.topology, DIRECTORY)
        self.provider = MachineProvider(self.stack)
        self.guests = {name: Guest(name, self.topology.guest_namespace(name), DIRECTORY) for name in GUESTS}
        self.places: Places = {}

    def run(self) -> None:
        """All steps in order; a later one is tried even if an earlier one failed."""
        self.console.print("[bold]A region in a box[/]: one fabric router, two hypervisors, six guests, two networks")
        with self.report.check("namespaces, cables and routes") as check:
            self.topology.build()
            for guest in self.guests.values():
                guest.create()
            check.measured = f"{3 + len(self.guests)} namespaces"
        self._start_processes()
        if not self.report.passed:
            return
        self._declare()
        if not self.report.passed:
            return
        self._boot_guests()
        self._check_traffic()
        self._show()

    def _start_processes(self) -> None:
        for process in self.stack.processes():
            process.start()
        for process in self.stack.processes():
            with self.report.check(f"{process.name} is ready") as check:
                process.wait_ready()
                check.measured = f"pid {process.pid}"

    def _declare(self) -> None:
        for manifest in sorted(EXAMPLES.glob("*.yaml")):
            with self.report.check(f"ironctl apply -f examples/{manifest.name}") as check:
                check.measured = "; ".join(self.stack.ironctl("apply", "-f", str(manifest)).split("\n")[:2])
        with self.report.check("networks get a network id each") as check:
            ids = set()
            for name in ("blue", "red"):
                wait = ("wait", "networks.networking.ironcore.dev", name, "-n", TENANT)
                self.stack.ironctl(*wait, "--for=jsonpath=status.state=Available", "--timeout=20s")
                network = self.provider.get("networks.networking.ironcore.dev", name, TENANT)
                ids.add(network["spec"]["providerID"].split("/")[-2])
            assert len(ids) == 2, f"network ids {ids}"
            check.measured = ", ".join(sorted(ids))
        with self.report.check("the virtual IP gets a public address") as check:
            check.measured = self._virtual_ip()

    def _virtual_ip(self) -> str:
        wait = ("wait", "virtualips.networking.ironcore.dev", "front", "-n", TENANT)
        self.stack.ironctl(*wait, "--for=jsonpath=status.ip", "--timeout=20s")
        return str(self.provider.get("virtualips.networking.ironcore.dev", "front", TENANT)["status"]["ip"])

    def _boot_guests(self) -> None:
        for name, number in GUESTS.items():
            with self.report.check(f"{name} gets a device on hv{number}") as check:
                place = self.provider.place(self.guests[name], self.topology.hypervisors[number - 1])
                self.places[name] = place
                place.guest.start_dhcp()
                check.measured = place.device
        for name, place in self.places.items():
            with self.report.check(f"{name} gets its addresses by DHCP and DHCPv6") as check:
                place.guest.wait_address(place.ipv4)
                place.guest.wait_address(place.ipv6)
                assert place.guest.mtu() == GUEST_MTU, f"MTU {place.guest.mtu()}"
                check.measured = f"{place.ipv4}, {place.ipv6}"
        with self.report.check("the tenant sees its interfaces Available") as check:
            for name in self.places:
                wait = ("wait", "networkinterfaces.networking.ironcore.dev", f"{name}-eth0", "-n", TENANT)
                self.stack.ironctl(*wait, "--for=jsonpath=status.state=Available", "--timeout=20s")
            check.measured = f"{len(self.places)} interfaces"

    def _check_traffic(self) -> None:
        pairs = {
            "same host": ("vm1", "vm2"),
            "across hosts": ("vm1", "vm3"),
            "across hosts, the other way": ("vm4", "vm2"),
            "across hosts, second network": ("vm5", "vm6"),
        }
        for title, (source, target) in pairs.items():
            for family in ("ipv4", "ipv6"):
                with self.report.check(f"ping {source} → {target}, {title}, {family}") as check:
                    self._expect_ping(check, source, getattr(self.places[target], family))
        for family in ("ipv4", "ipv6"):
            with self.report.check(f"full-size packets cross hosts, {family}") as check:
                headers = 28 if family == "ipv4" else 48
                self._expect_ping(check, "vm1", getattr(self.places["vm3"], family), size=GUEST_MTU - headers)
        self._check_isolation()
        for title, (source, target) in {"same host": ("vm1", "vm2"), "across hosts": ("vm1", "vm3")}.items():
            for family in ("ipv4", "ipv6"):
                with self.report.check(f"iperf3 {source} → {target}, {title}, {family}") as check:
                    address = getattr(self.places[target], family)
                    rate = self.guests[source].iperf(self.guests[target], address)
                    assert rate > 0.001, f"{rate} Gbit/s"
                    check.measured = f"{rate:.2f} Gbit/s TCP"
        with self.report.check("idle engines leave the processor alone") as check:
            check.measured = self._idle_load()

    def _expect_ping(self, check: Check, source: str, address: str, *, size: int = 56) -> None:
        result = self.guests[source].ping(address, size=size)
        check.measured = describe(result)
        assert result.lost == 0 and result.sent > 0, describe(result)

    def _check_isolation(self) -> None:
        """vm5 (red) has vm1's address: what is sent to that address in blue must reach vm1 and never vm5."""
        with self.report.check("equal addresses in two networks never meet") as check:
            before = {name: echo_requests(self.guests[name]) for name in ("vm1", "vm5")}
            result = self.guests["vm3"].ping(self.places["vm1"].ipv4)
            gained = {name: echo_requests(self.guests[name]) - count for name, count in before.items()}
            assert result.sent > 0 and result.lost == 0 and gained == {"vm1": result.sent, "vm5": 0}, (
                f"{describe(result)}, {gained}"
            )
            check.measured = f"vm1 got {gained['vm1']}, vm5 got {gained['vm5']}"
        with self.report.check("a network does not reach into another") as check:
            result = self.guests["vm5"].ping(self.places["vm2"].ipv4, count=3, patience=1)
            assert result.sent == 3 and result.received == 0, describe(result)
            check.measured = describe(result)

    def _idle_load(self) -> str:
        pids = {name: engine_pid(process.pid) for name, process in self.stack.engines.items()}
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        begin = time.monotonic()
        time.sleep(3)
        elapsed = time.monotonic() - begin
        used = [f"{name} {(cpu_seconds(pid) - before[name]) / elapsed:.1%}" for name, pid in pids.items()]
        return ", ".join(used) + " of one core"

    def _show(self) -> None:
        for words in (
            ("get", "networks", "-n", TENANT),
            ("get", "networkinterfaces.core.apinet.ironcore.dev"),
            ("get", "virtualips", "-n", TENANT),
        ):
            self.console.print(f"\n[bold]ironctl {' '.join(words)}[/]")
            self.console.print(self.stack.ironctl(*words), markup=False, highlight=False)

    def print_what_to_try(self) -> None:
        """Commands for a person who wants to look around."""
        socket = f"unix:{self.stack.api_socket}"
        python = Path(sys.executable).parent
        print(
            f"""
It keeps running. Try:
  export PATH={python}:$PATH IRONCTL_SERVER={socket}
  ironctl get networkinterfaces -A -o wide
  ironctl describe network blue -n {TENANT}
  ironctl watch virtualips -n {TENANT}
  ip netns exec ic-hv1 dpservice-cli list interfaces
  ip netns exec ic-hv1 dpservice-cli list routes
  ip netns exec ic-vm1 ping {self.places["vm3"].ipv4}
  ip netns exec ic-hv1 tcpdump -nni pf0 ip6 proto 4 or ip6 proto 41
  grpcurl -plaintext -unix {self.stack.api_socket} list
  grpcurl -plaintext -unix -d '{{"namespace": "{TENANT}"}}' {self.stack.api_socket} \\
      ironcore.networking.v1.NetworkService/List
  less {DIRECTORY}/logs/server.log
  ./dev demo down"""
        )

    def save(self) -> None:
        """Remember what runs, so that `down` ends exactly that."""
        pids = [process.pid for process in self.stack.processes() if process.running]
        pids += [guest.dhcp.pid for guest in self.guests.values() if guest.dhcp and guest.dhcp.running]
        (DIRECTORY / "state.json").write_text(json.dumps({"pids": pids}))

    def clean_up(self) -> None:
        """End everything this run started."""
        for guest in self.guests.values():
            guest.delete()
        self.stack.stop()
        self.topology.destroy()


def describe(result: PingResult) -> str:
    return f"{result.received}/{result.sent} replies, {result.average_ms:.2f} ms"


def echo_requests(guest: Guest) -> int:
    """ICMP echo requests that the guest's kernel has received."""
    lines = [line.split() for line in guest.namespace.exec("cat", "/proc/net/snmp").splitlines() if "Icmp:" in line]
    return int(dict(zip(lines[0], lines[1], strict=True))["InEchos"])


def engine_pid(pid: int) -> int:
    """`ip netns exec` replaces itself by the command, so the process that was started is the engine."""
    assert Path(f"/proc/{pid}").exists(), f"process {pid} is gone"
    return pid


def remove_earlier(console: Console) -> None:
    """Remove an earlier demo: its processes, those in its namespaces, the namespaces, its files."""
    topology = Topology()
    namespaces = [topology.fabric, *(h.namespace for h in topology.hypervisors)]
    namespaces += [topology.guest_namespace(name) for name in GUESTS]
    saved: dict[str, Any] = {"pids": []}
    state = DIRECTORY / "state.json"
    if state.exists():
        saved = json.loads(state.read_text())
    found, ended = remove(namespaces, [pid for pid in saved["pids"] if str(DIRECTORY) in command_line(pid)])
    if found or ended:
        console.print(f"removed {found} namespaces and {ended} processes")
    shutil.rmtree(DIRECTORY, ignore_errors=True)


@click.command()
@click.argument("action", type=click.Choice(["up", "down"]), default="up")
@click.option("--keep", is_flag=True, help="Leave everything running at the end.")
def main(action: str, keep: bool) -> None:
    """Run the demo, or remove one that was kept."""
    console = Console(highlight=False)
    remove_earlier(console)
    if action == "down":
        return
    demo = Demo(console)
    begin = time.monotonic()
    try:
        demo.run()
    finally:
        if keep:
            demo.save()
        else:
            demo.clean_up()
    console.print()
    demo.report.print_table()
    console.print(f"took {time.monotonic() - begin:.0f} s; logs are in {DIRECTORY}/logs")
    if keep and demo.report.passed:
        demo.print_what_to_try()
    sys.exit(0 if demo.report.passed else 1)


if __name__ == "__main__":
    main()
