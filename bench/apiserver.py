"""Speed of the resource API on a private etcd: creates, reads and watch fan-out. Prints JSON.

    python bench/apiserver.py [--seconds 3] [--concurrency 64] [--directory /dev/shm] [--profile server.prof]

etcd, the API server and the clients are three processes on one machine. Objects are VirtualIPs of about 200 bytes
without hooks of their kind. Watch rates: so many changes are written to the store, past the API, as fast as it takes
them; the rate counts events that all watchers together received, from the first to the last. ``node_watchers`` are a
thousand watchers that each select one value of an indexed field, so every change concerns one of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import uvloop
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.networking.v1 import virtual_ip_pb2

from apimachinery.client import Client
from apimachinery.endpoints import Endpoint
from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.process import EtcdProcess
from apimachinery.logs import configure_logging
from apimachinery.plan import encode_stored
from apimachinery.resource import ApiGroup, ResourceKind
from apimachinery.scheme import kind_info
from apimachinery.server_app import ApiServer
from apimachinery.store import Store, Txn

VirtualIP = virtual_ip_pb2.VirtualIP
INFO = kind_info(VirtualIP)
WATCH = f"/{INFO.service_name}/Watch"
# Connections of the watchers; HTTP/2 carries a hundred streams each.
STREAMS_PER_CONNECTION = 100


def virtual_ip(name: str, target: str = "") -> VirtualIP:
    obj = VirtualIP(metadata={"name": name, "namespace": "default", "labels": {"app": "bench"}})
    obj.spec.type = types_pb2.IP_TYPE_PUBLIC
    obj.spec.ip_family = types_pb2.IP_FAMILY_IPV4
    if target:
        obj.spec.target_ref.name = target
    return obj


async def serve(endpoint: str, address: str) -> None:
    """The API server's process; ends with its standard input."""
    async with EtcdClient([endpoint]) as client, Store(client) as store:
        server = ApiServer(store, [ApiGroup("bench", [ResourceKind(VirtualIP)])])
        await server.start([Endpoint(path=address)])
        await server.wait_synced()
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.stop(grace=0)


async def rate(work: Callable[[int], Awaitable[object]], concurrency: int, seconds: float) -> tuple[float, float]:
    """(calls, seconds) of so many callers, each waiting for its answer."""
    numbers, done = itertools.count(), 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await work(next(numbers))
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return done, time.perf_counter() - started


def count_events(response: bytes) -> int:
    """Events in an encoded watch response, without decoding them: the clients share the machine with the server."""
    events = position = 0
    while position < len(response):
        events += response[position] == 0x12
        position += 1
        size = shift = 0
        while True:
            byte = response[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        position += size
    return events


@dataclass
class Meter:
    """Takes measurements, each with the processor time that the server process spent per operation."""

    server: int
    results: dict[str, float] = field(default_factory=dict)

    def cpu(self) -> float:
        """Seconds of processor time of the server so far (proc(5): utime and stime)."""
        fields = Path(f"/proc/{self.server}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def take(self, name: str, measurement: Awaitable[tuple[float, float]]) -> None:
        """Runs a measurement that returns (operations, seconds)."""
        before = self.cpu()
        operations, elapsed = await measurement
        self.results[f"{name}_per_second"] = round(operations / elapsed, 1)
        self.results[f"{name}_server_cpu_microseconds"] = round((self.cpu() - before) / operations * 1e6, 1)


class Watchers:
    """Watch streams that count events. ``expected`` is the number of all events together."""

    def __init__(self, requests: list[meta_pb2.WatchRequest], expected: int) -> None:
        self.left = expected
        self.first = 0.0
        self.done = asyncio.Event()
        self.attached = asyncio.Semaphore(0)
        self._requests = requests

    async def follow(self, channel: grpc.aio.Channel, request: meta_pb2.WatchRequest) -> None:
        call = channel.unary_stream(WATCH)(request.SerializeToString())
        await call.read()
        self.attached.release()
        while True:
            events = count_events(await call.read())
            if events:
                self.first = self.first or time.perf_counter()
                self.left -= events
                if self.left <= 0:
                    self.done.set()

    @contextlib.asynccontextmanager
    async def running(self, address: str) -> AsyncIterator[None]:
        """Returns when every stream has its snapshot."""
        async with contextlib.AsyncExitStack() as stack:
            tasks = []
            for start in range(0, len(self._requests), STREAMS_PER_CONNECTION):
                # The option keeps gRPC from sharing one connection between channels to the same address.
                options = [("grpc.use_local_subchannel_pool", 1)]
                channel = grpc.aio.insecure_channel(f"unix:{address}", options=options)
                await stack.enter_async_context(channel)
                requests = self._requests[start : start + STREAMS_PER_CONNECTION]
                tasks += [asyncio.create_task(self.follow(channel, request)) for request in requests]
            try:
                for _ in tasks:
                    await self.attached.acquire()
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def fan_out(
    store: Store, address: str, requests: list[meta_pb2.WatchRequest], changes: int, seen_by: int
) -> tuple[float, float]:
    """(events, seconds) of all watchers together; each change concerns ``seen_by`` of them."""
    watchers = Watchers(requests, changes * seen_by)
    values = [encode_stored(virtual_ip("x", f"target{number}")) for number in range(1000)]
    async with watchers.running(address):
        pending = set()
        for number in range(changes):
            key = INFO.key("default", f"w{number % 1000}")
            pending.add(asyncio.create_task(store.commit(Txn().put(key, values[number % 1000]))))
            if len(pending) >= 256:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*pending)
        await watchers.done.wait()
        return changes * seen_by, time.perf_counter() - watchers.first


async def measure(endpoint: str, address: str, server: int, seconds: float, concurrency: int) -> dict[str, float]:
    meter = Meter(server)
    async with (
        EtcdClient([endpoint]) as etcd,
        Store(etcd) as store,
        Client(f"unix:{address}") as client,
    ):
        ips = client.kind(VirtualIP)
        everything = meta_pb2.WatchRequest()
        targets = [
            meta_pb2.WatchRequest(field_selector=[{"field": "spec.target_ref.name", "value": f"target{number}"}])
            for number in range(1000)
        ]
        await meter.take("events_to_1_watcher", fan_out(store, address, [everything], 20_000, 1))
        await meter.take("events_to_100_watchers", fan_out(store, address, [everything] * 100, 5_000, 100))
        await meter.take("events_to_1000_node_watchers", fan_out(store, address, targets, 10_000, 1))
        await ips.create(virtual_ip("one"))

        async def relabel(number: int) -> None:
            obj = virtual_ip(f"c{number}")
            obj.metadata.labels["n"] = str(number)
            await ips.apply(obj, "bench")

        async def list_all() -> tuple[float, float]:
            started = time.perf_counter()
            return len(await ips.list()), time.perf_counter() - started

        await meter.take("creates", rate(lambda n: ips.create(virtual_ip(f"c{n}")), concurrency, seconds))
        await meter.take("sequential_creates", rate(lambda n: ips.create(virtual_ip(f"s{n}")), 1, seconds))
        await meter.take("gets", rate(lambda _: ips.get("", "one"), concurrency, seconds))
        await meter.take("applies", rate(relabel, concurrency, seconds))
        await meter.take("listed_objects", list_all())
    return meter.results


async def run(directory: Path, seconds: float, concurrency: int, profile: str) -> dict[str, object]:
    address = str(directory / "api")
    load = os.getloadavg()[0]
    async with EtcdProcess(directory / "etcd") as etcd:
        command = [sys.executable, __file__, "--serve", etcd.endpoint, address]
        command += ["--profile", profile] if profile else []
        server = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert server.stdin is not None and server.stdout is not None
        try:
            assert (await server.stdout.readline()).strip() == b"ready"
            results = await measure(etcd.endpoint, address, server.pid, seconds, concurrency)
        finally:
            server.stdin.close()
            await server.wait()
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load_before": load}
    return {"bench": "apiserver", "concurrency": concurrency, **machine, "results": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--directory", help="where etcd keeps its data; default: the system's temporary directory")
    parser.add_argument("--profile", default="", help="write a profile of the server process to this file")
    parser.add_argument("--serve", nargs=2, metavar=("ETCD", "SOCKET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_logging(level="warning")
    if arguments.serve:
        if arguments.profile:
            with cProfile.Profile() as profile:
                asyncio.run(serve(*arguments.serve))
            profile.dump_stats(arguments.profile)
        else:
            uvloop.run(serve(*arguments.serve))
        return
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.directory) as directory:
        results = uvloop.run(run(Path(directory), arguments.seconds, arguments.concurrency, arguments.profile))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
