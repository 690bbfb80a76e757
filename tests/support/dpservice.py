"""A real dpservice process for tests: on null devices (no network at all), or on given devices in a namespace."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb
from ironcore.dpdk.v1 import dpdk_pb2_grpc

from dpservice.calls import SERVICE
from tests.lab.process import Process

EXECUTABLE = Path(sys.executable).with_name("dpservice")
DROP_IN = EXECUTABLE.with_name("dpservice-bin")
UPLINKS = 2
# Devices that never receive; the first two are the uplinks.
NULL_DEVICES = tuple(f"--vdev=net_null{number},no-rx=1" for number in range(UPLINKS + 4))
NULL_OPTIONS = ("--pf0=net_null0", "--pf1=net_null1", "--vf-pattern=net_null", "--nic-type=tap", "--ipv6=fc00:1::1")

_serial = itertools.count()


def eal_arguments(memory_megabytes: int = 256) -> list[str]:
    """EAL arguments that need no huge pages and leave nothing behind."""
    prefix = f"test{os.getpid()}-{next(_serial)}"
    return ["-l", "0", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", str(memory_megabytes),
            "--file-prefix", prefix, "--log-level=error"]  # fmt: skip


def drop_in_arguments() -> list[str]:
    """Words that start the drop-in as the reference is started on TAP devices: two uplinks, four VMs."""
    names = ("dtap0", "dtap1", "dtapvf_0", "dtapvf_1", "dtapvf_2", "dtapvf_3")
    devices = [f"--vdev=net_tap{number},iface={name}" for number, name in enumerate(names)]
    service = (
        "--pf0=dtap0 --pf1=dtap1 --vf-pattern=dtapvf_ --nic-type=tap --ipv6=fc00:1::1 --enable-ipv6-overlay "
        "--no-stats --no-offload --grpc-port=1337"
    )
    # What is not the reference's: no huge pages, and a prefix of its own.
    own = ["--no-huge", "-m", "256", "--file-prefix", f"test{os.getpid()}-{next(_serial)}", "--log-level=error"]
    return [str(DROP_IN), "-l", "0,1", "--no-pci", *own, *devices, "--", *service.split()]


class Caller:
    """Calls by name, with the fields of their requests."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = dpdk_pb2_grpc.DPDKironcoreStub(channel)

    def call(self, method: str, **fields: Any) -> Any:
        """The response."""
        request = getattr(pb, SERVICE.methods_by_name[method].input_type.name)(**fields)
        return getattr(self._stub, method)(request, timeout=30)

    def code(self, method: str, **fields: Any) -> int:
        """Status code of the response."""
        status: int = self.call(method, **fields).status.code
        return status

    def refused(self, method: str, **fields: Any) -> str:
        """Text of INVALID_ARGUMENT."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, **fields)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        text: str = caught.value.details()
        return text


def ip(text: str) -> pb.IpAddress:
    """Message of an address."""
    return pb.IpAddress(ipver=pb.IPV6 if ":" in text else pb.IPV4, address=text.encode())


def prefix(text: str) -> pb.Prefix:
    """Message of `address/length`."""
    address, _, length = text.partition("/")
    return pb.Prefix(ip=ip(address), length=int(length))


def route(text: str, hop: str = "fc00:2::1", vni: int = 7) -> pb.Route:
    """Message of a route to another host."""
    return pb.Route(prefix=prefix(text), nexthop_vni=vni, nexthop_address=ip(hop), weight=100)


class Dpservice:
    """One process and a channel to it; a context manager that stops it."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        devices: Sequence[str] = NULL_DEVICES,
        base_options: Sequence[str] = NULL_OPTIONS,
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        telemetry: bool = False,
    ) -> None:
        self.target = f"unix:{directory}/dpservice.sock"
        eal = [word for word in eal_arguments() if not (telemetry and word == "--no-telemetry")]
        words = [*before, str(EXECUTABLE), *eal, *devices, "--", *base_options]
        # The EAL keeps its files here, and leaves them behind.
        environment = {"DP_CONF": "", "RUNTIME_DIRECTORY": str(directory)} | dict(env or {})
        words += [f"--grpc-listen={self.target}", "--flow-table-size=4096", "--no-offload", *options]
        self.process = Process("dpservice", words, directory, env=environment)
        self._channel: grpc.Channel | None = None

    def __enter__(self) -> Dpservice:
        self.process.start()
        try:
            self.process.wait_ready()
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._channel is not None:
            self._channel.close()
        self.process.stop()

    def channel(self) -> grpc.Channel:
        """One channel for all stubs of a test."""
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.target)
        return self._channel

    def stub(self) -> dpdk_pb2_grpc.DPDKironcoreStub:
        """Stub of the main service."""
        return dpdk_pb2_grpc.DPDKironcoreStub(self.channel())
