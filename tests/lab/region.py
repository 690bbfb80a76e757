"""A small region that is up and used: topology, processes, guests with addresses. End-to-end tests start from it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from tests.lab.cleanup import remove
from tests.lab.guest import Guest, PingResult
from tests.lab.machines import APINET, TENANT, MachineProvider, Placement
from tests.lab.namespace import Namespace
from tests.lab.stack import Stack
from tests.lab.topology import Hypervisor, Topology

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# Guest → number of its hypervisor. vm5 and vm6 are in the network "red" and have the addresses of vm1 and vm3.
GUESTS = {"vm1": 1, "vm2": 1, "vm3": 2, "vm4": 2, "vm5": 1, "vm6": 2}
FAMILIES = ("ipv4", "ipv6")

# What every engine has been told: hypervisor → kind → objects.
Programmed = dict[str, dict[str, list[str]]]


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 30) -> float:
    """Look again and again until the condition holds; returns the seconds it took. Raises TimeoutError."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > timeout:
            raise TimeoutError(f"not within {timeout:.0f} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - begin


class Region:
    """Everything of one lab. The prefix keeps several on one machine apart; guests: name → number of its hypervisor."""

    def __init__(
        self,
        prefix: str,
        directory: Path,
        *,
        guests: Mapping[str, int],
        hypervisors: int = 2,
        daemon_options: Sequence[str] = (),
    ) -> None:
        self.topology = Topology(prefix, hypervisors)
        self._remove_leftovers(guests)
        self.stack = Stack(self.topology, directory, daemon_options)
        self.provider = MachineProvider(self.stack)
        self.directory = directory
        self.guests = {name: self.guest(name) for name in guests}
        self.places: dict[str, Placement] = {}
        self._numbers = dict(guests)

    def _remove_leftovers(self, guests: Mapping[str, int]) -> None:
        remove([*self._infrastructure(), *(self.topology.guest_namespace(name) for name in guests)])

    def _infrastructure(self) -> list[Namespace]:
        return [self.topology.fabric, *(hypervisor.namespace for hypervisor in self.topology.hypervisors)]

    def guest(self, name: str) -> Guest:
        """A guest of this lab, not yet created."""
        return Guest(name, self.topology.guest_namespace(name), self.directory)

    def hypervisor(self, guest: str) -> Hypervisor:
        """Where a guest runs."""
        return self.topology.hypervisors[self._numbers[guest] - 1]

    # Life

    def build(self) -> None:
        """Namespaces and cables."""
        self.topology.build()
        for guest in self.guests.values():
            guest.create()

    def up(self) -> None:
        """From nothing to guests with addresses."""
        self.build()
        self.stack.start()
        self.populate()

    def populate(self) -> None:
        """Declare the examples, place the guests and let them boot; returns when they have their addresses."""
        for manifest in sorted(EXAMPLES.glob("*.yaml")):
            self.stack.ironctl("apply", "-f", str(manifest))
        for name in ("blue", "red"):
            wait = ("wait", "networks.networking.ironcore.dev", name, "-n", TENANT)
            self.stack.ironctl(*wait, "--for=jsonpath=status.state=Available", "--timeout=20s")
        with ThreadPoolExecutor(max_workers=3) as pool:
            for place in pool.map(
                lambda name: self.provider.place(self.guests[name], self.hypervisor(name)), self.guests
            ):
                self.places[place.guest.name] = place
                place.guest.start_dhcp()
        for name in self.guests:
            self.wait_addresses(name)

    @contextlib.contextmanager
    def visitor(self, name: str, number: int, addresses: Sequence[str]) -> Iterator[Placement]:
        """One more guest of network blue on hypervisor `number` while the block runs, plugged in, not configured."""
        self.stack.ironctl("apply", "-f", "-", text_in=json.dumps(_interface(name, addresses)))
        self._numbers[name] = number
        guest = self.guests[name] = self.guest(name)
        try:
            guest.create()
            place = self.places[name] = self.provider.place(guest, self.hypervisor(name), timeout=60)
            try:
                yield place
            finally:
                guest.unplug(self.hypervisor(name).namespace, place.device)
        finally:
            self.guests.pop(name).delete()
            self.places.pop(name, None)
            for kind, namespace in (("core.apinet", APINET), ("networking", TENANT)):
                resource = f"networkinterfaces.{kind}.ironcore.dev"
                self.stack.ironctl("delete", "--ignore-not-found", resource, f"{name}-eth0", "-n", namespace)

    def wait_addresses(self, name: str) -> None:
        """Wait until a guest has both its addresses."""
        place = self.places[name]
        place.guest.wait_address(place.ipv4)
        place.guest.wait_address(place.ipv6)

    def down(self) -> None:
        """End everything, even if it was left half built."""
        for guest in self.guests.values():
            guest.delete()
        self.stack.stop()
        remove(self._infrastructure())

    def repair(self) -> None:
        """Start again what a failed test has left dead, so that the next one does not fail for it."""
        dead = [process for process in self.stack.processes() if not process.running]
        for process in dead:
            process.start()
        for process in dead:
            process.wait_ready()

    # Looking

    def address(self, guest: str, family: str) -> str:
        """Address of a guest; family: one of FAMILIES."""
        place = self.places[guest]
        return place.ipv4 if family == "ipv4" else place.ipv6

    def ping(self, source: str, target: str, family: str) -> PingResult:
        """Ping between two guests of one network."""
        return self.guests[source].ping(self.address(target, family))

    def expect_ping(self, source: str, target: str, *families: str) -> None:
        """Ping in the families (default: both); AssertionError if one packet is lost."""
        for family in families or FAMILIES:
            result = self.ping(source, target, family)
            assert result.sent == result.received > 0, f"{source} → {target}, {family}: {result}"

    def programmed(self) -> Programmed:
        """What every engine has been told, as it tells itself."""
        return {h.name: self.stack.programmed(h) for h in self.topology.hypervisors}

    def _told(self) -> Programmed:
        """The same, empty while an engine is away or was not yet met by its daemon."""
        try:
            return self.programmed()
        except grpc.RpcError:
            return {}

    def wait_programmed(self, expected: Programmed, timeout: float = 30) -> None:
        """Wait until the engines have exactly this."""
        deadline = time.monotonic() + timeout
        while (found := self._told()) != expected:
            assert time.monotonic() < deadline, "\n".join(["programmed state differs:", *_differences(expected, found)])
            time.sleep(0.2)


def _interface(name: str, addresses: Sequence[str]) -> dict[str, object]:
    return {
        "apiVersion": "networking.ironcore.dev/v1alpha1",
        "kind": "NetworkInterface",
        "metadata": {"name": f"{name}-eth0", "namespace": TENANT},
        "spec": {
            "networkRef": {"name": "blue"},
            "ipFamilies": ["IPv4", "IPv6"],
            "ips": [{"value": address} for address in addresses],
        },
    }


def _differences(expected: Programmed, found: Programmed) -> list[str]:
    lines = []
    for host, kinds in expected.items():
        for kind, objects in kinds.items():
            there = found.get(host, {}).get(kind, [])
            lines += [f"{host}: {kind} lacks {item}" for item in objects if item not in there]
            lines += [f"{host}: {kind} has too much: {item}" for item in there if item not in objects]
    return lines
