"""The wires of the lab: a fabric router, hypervisors with two uplinks each, and cables waiting for guests.

    ic-fabric ── hv1p0/hv1p1 ── pf0/pf1 ic-hv1  vf0..vf3 ── (guest ends, moved into guests when they are attached)
              └─ hv2p0/hv2p1 ── pf0/pf1 ic-hv2  vf0..vf3

The underlay is IPv6 only. Hypervisor n owns fc00:n::/64; the control plane listens on fd00:fab::1.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.namespace import Namespace, connect

CONTROL_ADDRESS = "fd00:fab::1"
GUEST_MTU = 1500
# Outer IPv6 header, with some room.
UNDERLAY_MTU = 1600
DEVICES_PER_HYPERVISOR = 4


@dataclass(frozen=True)
class Hypervisor:
    number: int
    namespace: Namespace

    @property
    def name(self) -> str:
        return f"hv{self.number}"

    @property
    def underlay_address(self) -> str:
        return f"fc00:{self.number}::1"

    @property
    def underlay_prefix(self) -> str:
        return f"fc00:{self.number}::/64"

    def vdevs(self) -> list[str]:
        """EAL arguments for its ports: two uplinks, then the guests' devices, all by AF_PACKET on veth.

        The pairs belong to the kernel, so guests keep their device when the engine restarts.
        """
        interfaces = ["pf0", "pf1", *(f"vf{i}" for i in range(DEVICES_PER_HYPERVISOR))]
        return [
            f"--vdev=net_af_packet{i},iface={interface},blocksz=4096,framesz=2048,framecnt=512,qpairs=1"
            for i, interface in enumerate(interfaces)
        ]


class Topology:
    """All namespaces of one lab; the prefix keeps several labs on one machine apart."""

    def __init__(self, prefix: str = "ic", hypervisors: int = 2) -> None:
        self.prefix = prefix
        self.fabric = Namespace(f"{prefix}-fabric")
        self.hypervisors = [Hypervisor(n, Namespace(f"{prefix}-hv{n}")) for n in range(1, hypervisors + 1)]

    def guest_namespace(self, name: str) -> Namespace:
        return Namespace(f"{self.prefix}-{name}")

    def build(self) -> None:
        self.fabric.create()
        self.fabric.sysctl("net.ipv6.conf.all.forwarding", "1")
        self.fabric.ip("addr", "add", f"{CONTROL_ADDRESS}/128", "dev", "lo")
        for hypervisor in self.hypervisors:
            self._build_hypervisor(hypervisor)

    def _build_hypervisor(self, hypervisor: Hypervisor) -> None:
        host = hypervisor.namespace
        host.create()
        host.ip("addr", "add", f"{hypervisor.underlay_address}/128", "dev", "lo")
        for uplink in (0, 1):
            near, far = f"pf{uplink}", f"{hypervisor.name}p{uplink}"
            connect(host, near, self.fabric, far, mtu=UNDERLAY_MTU)
            self.fabric.ip("addr", "add", "fe80::1/64", "dev", far, "nodad")
            host.ip("addr", "add", "fe80::2/64", "dev", near, "nodad")
            metric = str(100 + uplink)
            host.ip("-6", "route", "add", "default", "via", "fe80::1", "dev", near, "metric", metric)
            route = [hypervisor.underlay_prefix, "via", "fe80::2", "dev", far, "metric", metric]
            self.fabric.ip("-6", "route", "add", *route)
        for i in range(DEVICES_PER_HYPERVISOR):
            connect(host, f"vf{i}", host, f"vf{i}g", mtu=GUEST_MTU)

    def destroy(self) -> None:
        for hypervisor in self.hypervisors:
            hypervisor.namespace.delete()
        self.fabric.delete()
