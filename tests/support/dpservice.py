"""A real dpservice process for tests: on null devices (no network at all), or on given devices in a namespace."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
from ironcore.dpdk.v1 import dpdk_pb2_grpc

from tests.lab.process import Process

EXECUTABLE = Path(sys.executable).with_name("dpservice")
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
    ) -> None:
        self.target = f"unix:{directory}/dpservice.sock"
        words = [*before, str(EXECUTABLE), *eal_arguments(), *devices, "--", *base_options]
        environment = {"DP_CONF": ""} | dict(env or {})
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
