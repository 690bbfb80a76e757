"""The whole system on one machine: which processes there are, how they are started, killed and asked."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from ironcore.dpdk.v1 import dpdk_pb2, dpdk_pb2_grpc

from apimachinery.etcd.process import find_processes
from tests.lab.namespace import run
from tests.lab.pki import Authority, Identity
from tests.lab.process import Process
from tests.lab.topology import CONTROL_ADDRESS, DEVICES_PER_HYPERVISOR, Hypervisor, Topology

API_PORT = 8443
METALBOND_PORT = 4711
DPSERVICE_PORT = 1337
DPSERVICE_METRICS = "127.0.0.1:9064"
PARTITION = "lab"
PUBLIC_PREFIX = "203.0.113.0/24"
# Memory of one engine, in MiB.
ENGINE_MEMORY = 384
_CALL_SECONDS = 10.0
# Ports of an engine before those of its guests.
UPLINKS = 2


def executable(name: str) -> str:
    """Path of one of the project's own programs, beside the running interpreter."""
    return str(Path(sys.executable).with_name(name))


class Stack:
    """Every process of the lab by name: server, metalbond, and per hypervisor an engine and a daemon."""

    def __init__(self, topology: Topology, directory: Path, daemon_options: Sequence[str] = ()) -> None:
        self.topology = topology
        self._daemon_options = daemon_options
        self.directory = directory
        huge = huge_pages_free() >= ENGINE_MEMORY * len(topology.hypervisors) and not os.environ.get("IRONCORE_NO_HUGE")
        self._memory = ["--socket-mem" if huge else "-m", str(ENGINE_MEMORY), *([] if huge else ["--no-huge"])]
        directory.mkdir(parents=True, exist_ok=True)
        self.api_socket = directory / "api.sock"
        authority = Authority(directory / "pki")
        self._server_identity = authority.issue("ironcore-net-server", [CONTROL_ADDRESS])
        self.server = Process("server", self._server_command(), directory)
        self.metalbond = Process("metalbond", self._metalbond_command(), directory)
        self.engines: dict[str, Process] = {}
        self.daemons: dict[str, Process] = {}
        for hypervisor in topology.hypervisors:
            name = hypervisor.name
            identity = authority.issue(f"metalnet-daemon-{name}")
            self.engines[name] = Process(
                f"dpservice-{name}", self._engine_command(hypervisor), directory, env={"DP_CONF": ""}
            )
            self.daemons[name] = Process(
                f"metalnet-daemon-{name}", self._daemon_command(hypervisor, identity), directory
            )

    def control_processes(self) -> list[Process]:
        """Those that no packet passes through."""
        return [self.server, self.metalbond, *self.daemons.values()]

    def processes(self) -> Iterator[Process]:
        """All of them, in the order in which they are started."""
        yield self.server
        yield self.metalbond
        yield from self.engines.values()
        yield from self.daemons.values()

    def node_name(self, hypervisor: Hypervisor) -> str:
        """Name of the hypervisor's node in the global API."""
        return f"{PARTITION}.{hypervisor.name}"

    def _server_command(self) -> list[str]:
        listen = ["--listen", f"unix:{self.api_socket}", "--listen", f"[{CONTROL_ADDRESS}]:{API_PORT}"]
        groups = [word for name in ("networking", "ipam", "apinet", "metalnet") for word in ("--groups", name)]
        controllers = [
            word for name in ("garbage", "nodes", "apinetlet", "metalnetlet") for word in ("--controllers", name)
        ]
        tls = self._server_identity
        return [
            *self.topology.fabric.prefix(),
            executable("ironcore-net-server"),
            *("--data-dir", str(self.directory / "etcd")),
            *listen,
            *("--tls-cert", str(tls.certificate), "--tls-key", str(tls.key), "--tls-client-ca", str(tls.authority)),
            *groups,
            *controllers,
            *("--partition", PARTITION, "--public-prefix", PUBLIC_PREFIX, "--log-format", "json"),
            *("--metrics", "127.0.0.1:9100"),
        ]

    def _metalbond_command(self) -> list[str]:
        return [
            *self.topology.fabric.prefix(),
            executable("metalbond"),
            "server",
            *("--listen", f"[{CONTROL_ADDRESS}]:{METALBOND_PORT}"),
        ]

    def _engine_command(self, hypervisor: Hypervisor) -> list[str]:
        return [
            *hypervisor.namespace.prefix(),
            executable("dpservice"),
            *("-l", "0,1", "--no-pci", "--no-telemetry", "--file-prefix", f"{self.topology.prefix}-{hypervisor.name}"),
            *self._memory,
            *hypervisor.vdevs(),
            "--",
            *("--pf0", "pf0", "--pf1", "pf1", "--vf-pattern", "vf", "--ipv6", hypervisor.underlay_address),
            *("--nic-type", "tap", "--no-offload", "--no-stats", "--enable-ipv6-overlay", "--poll-mode", "adaptive"),
            *("--metrics-listen", DPSERVICE_METRICS),
            # The second one is for callers outside of the namespace.
            *("--grpc-listen", f"127.0.0.1:{DPSERVICE_PORT}", "--grpc-listen", self.engine_target(hypervisor)),
            *("--flow-table-size", "65536", "--log-format", "json"),
            *("--dhcp-mtu", "1500", "--dhcp-dns", "192.0.2.53", "--dhcpv6-dns", "2001:db8::53"),
        ]

    def _daemon_command(self, hypervisor: Hypervisor, identity: Identity) -> list[str]:
        last = DEVICES_PER_HYPERVISOR - 1
        pool = f"vf{{0..{last}}}=net_af_packet{{{UPLINKS}..{last + UPLINKS}}}"
        return [
            *hypervisor.namespace.prefix(),
            executable("metalnet-daemon"),
            *("--node-name", hypervisor.name, "--api-server", f"[{CONTROL_ADDRESS}]:{API_PORT}"),
            *("--api-server-ca", str(identity.authority), "--api-server-cert", str(identity.certificate)),
            *("--api-server-key", str(identity.key), "--dpservice", f"127.0.0.1:{DPSERVICE_PORT}"),
            *("--metalbond-server", f"[{CONTROL_ADDRESS}]:{METALBOND_PORT}"),
            *("--metalbond-local-address", hypervisor.underlay_address, "--device-pool", pool),
            *("--underlay-prefix", hypervisor.underlay_prefix),
            *("--state-dir", str(self.directory / "state" / hypervisor.name), "--log-format", "json"),
            *self._daemon_options,
        ]

    def start(self) -> None:
        """Start everything and wait until it says that it is ready."""
        processes = list(self.processes())
        for process in processes:
            process.start()
        for process in processes:
            process.wait_ready()

    def etcd_pids(self) -> list[int]:
        """The server's private etcd, which is no child of ours."""
        return find_processes(self.directory / "etcd" / "etcd" / "data")

    def kill(self) -> None:
        """End everything at the same moment, etcd included, without a chance to clean up."""
        processes = list(self.processes())
        for pid in [*(process.pid for process in processes if process.running), *self.etcd_pids()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in processes:
            process.wait_ended()

    def stop(self) -> None:
        """Stop everything in the opposite order."""
        for process in reversed(list(self.processes())):
            process.stop()

    def ironctl(self, *words: str, text_in: str | None = None, check: bool = True, timeout: float = 60) -> str:
        """Run the command line client against this lab."""
        env = {"IRONCTL_SERVER": f"unix:{self.api_socket}"}
        return run([executable("ironctl"), *words], text_in=text_in, check=check, timeout=timeout, env=env)

    def engine_cli(self, hypervisor: Hypervisor, *words: str) -> str:
        """Run the engine's command line client on a hypervisor."""
        return hypervisor.namespace.exec(executable("dpservice-cli"), *words)

    def engine_target(self, hypervisor: Hypervisor) -> str:
        """gRPC address of an engine that can be reached from anywhere on this machine."""
        return f"unix:{self.directory}/dpservice-{hypervisor.name}.sock"

    def interfaces(self, hypervisor: Hypervisor) -> list[dpdk_pb2.Interface]:
        """The interfaces of an engine."""
        with grpc.insecure_channel(self.engine_target(hypervisor)) as channel:
            stub = dpdk_pb2_grpc.DPDKironcoreStub(channel)
            return list(stub.ListInterfaces(dpdk_pb2.ListInterfacesRequest(), timeout=_CALL_SECONDS).interfaces)

    def programmed(self, hypervisor: Hypervisor) -> dict[str, list[str]]:
        """Everything the engine of a hypervisor has been told, by kind, in an order that does not depend on time."""
        interfaces = self.interfaces(hypervisor)
        listings = {"interfaces": [_text(one) for one in interfaces]}
        with grpc.insecure_channel(self.engine_target(hypervisor)) as channel:
            stub = dpdk_pb2_grpc.DPDKironcoreStub(channel)
            listings["prefixes"] = [
                _text(prefix, interface.id.decode())
                for interface in interfaces
                for prefix in stub.ListPrefixes(
                    dpdk_pb2.ListPrefixesRequest(interface_id=interface.id), timeout=_CALL_SECONDS
                ).prefixes
            ]
            listings["routes"] = [
                _text(route, str(vni))
                for vni in {interface.vni for interface in interfaces}
                for route in stub.ListRoutes(dpdk_pb2.ListRoutesRequest(vni=vni), timeout=_CALL_SECONDS).routes
            ]
        return {kind: sorted(texts) for kind, texts in listings.items()}

    def engine_metric(self, hypervisor: Hypervisor, name: str, **labels: str) -> float:
        """Sum of the samples of one metric that have the labels, as the engine of a hypervisor shows it."""
        return sum(value for found, value in self._samples(hypervisor, name) if labels.items() <= found.items())

    def drops(self, hypervisor: Hypervisor, device: str) -> collections.Counter[str]:
        """Frames of a guest's device ("vf0") that the engine has dropped, by the reason's name."""
        port = f"net_af_packet{int(device.removeprefix('vf')) + UPLINKS}"
        samples = self._samples(hypervisor, "dpservice_port_drops_total")
        return collections.Counter(
            {labels["reason"]: int(value) for labels, value in samples if labels["device"] == port}
        )

    def _samples(self, hypervisor: Hypervisor, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Labels and value of each sample of a metric."""

        def fetch() -> str:
            with urllib.request.urlopen(f"http://{DPSERVICE_METRICS}/metrics", timeout=10) as page:
                return str(page.read().decode())

        page = hypervisor.namespace.call(fetch)
        for text, value in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", page, re.MULTILINE):
            yield dict(re.findall(r'(\w+)="([^"]*)"', text)), float(value)

    def logs(self, names: Sequence[str] = ()) -> dict[str, str]:
        """Last log lines by process name, for an error report."""
        return {p.name: p.log_tail() for p in self.processes() if not names or p.name in names}


def _text(message: Message, owner: str = "") -> str:
    return f"{owner} {MessageToJson(message, indent=None, sort_keys=True)}".strip()


def huge_pages_free() -> int:
    """MiB of free 2 MiB pages."""
    found = re.search(r"^HugePages_Free:\s+(\d+)$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return 2 * int(found[1]) if found else 0
