"""Routes per second from one client through a server process to another client process. Prints JSON.

    python bench/metalbond_routes.py [--routes 100000] [--runs 5]

Three processes on loopback. The clock runs from the first announcement in A's process until B's backend has the last
route; "dump" is the same table sent to a subscriber that comes later.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import structlog

from metalbond.client import MetalbondClient
from metalbond.main import run
from metalbond.server import MetalbondServer
from metalbond.types import Destination, NextHop

# Standard output is the result's; processes that are forked inherit this.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))

VNI = 100


class CountingBackend:
    def __init__(self, expected: int) -> None:
        self.count = 0
        self.expected = expected
        self.done = asyncio.Event()

    def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None:
        self.count += 1
        if self.count == self.expected:
            self.done.set()

    def route_removed(self, vni: int, destination: Destination, hop: NextHop) -> None:
        raise AssertionError("nothing is withdrawn in this benchmark")


def serve(pipe: Connection) -> None:
    async def work() -> None:
        server = MetalbondServer()
        await server.start(["[::1]:0"])
        pipe.send(server.addresses[0])
        await asyncio.to_thread(pipe.recv)
        pipe.send(_usage())
        await server.close()

    run(work())


def receive(address: str, routes: int, pipe: Connection) -> None:
    async def work() -> None:
        backend = CountingBackend(routes)
        client = MetalbondClient([address], backend=backend)
        client.subscribe(VNI)
        started = time.monotonic()
        await client.start()
        await client.wait_synced(VNI)
        pipe.send("ready")
        await backend.done.wait()
        pipe.send((time.monotonic() - started, time.monotonic()))
        await client.close()

    run(work())


def announce(address: str, routes: int, pipe: Connection) -> None:
    async def work() -> None:
        client = MetalbondClient([address], backend=CountingBackend(-1))
        await client.start()
        await client.wait_connected()
        hop = NextHop.to("fd00::2")
        wanted = [(Destination((0x0A000000 + n).to_bytes(4, "big"), 32), hop) for n in range(routes)]
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        started = time.monotonic()
        client.set_announcements(VNI, wanted)
        pipe.send(started)
        await asyncio.to_thread(pipe.recv)
        await client.close()

    run(work())


def _usage() -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_seconds": usage.ru_utime + usage.ru_stime, "max_rss_mib": usage.ru_maxrss / 1024}


def run_once(routes: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    processes = []

    def spawn(target: Callable[..., None], *arguments: object) -> Connection:
        here, there = context.Pipe()
        process = context.Process(target=target, args=(*arguments, there))
        process.start()
        processes.append(process)
        return here

    def hear(pipe: Connection) -> Any:
        if not pipe.poll(120):
            raise TimeoutError("a process of the benchmark says nothing")
        return pipe.recv()

    try:
        server = spawn(serve)
        address = hear(server)
        receiver = spawn(receive, address, routes)
        announcer = spawn(announce, address, routes)
        hear(receiver)
        hear(announcer)
        announcer.send("go")
        started = hear(announcer)
        _, ended = hear(receiver)
        late = spawn(receive, address, routes)
        hear(late)
        dump, _ = hear(late)
        announcer.send("stop")
        server.send("stop")
        usage = hear(server)
        for process in processes:
            process.join(20)
    finally:
        for process in processes:
            process.kill()
    seconds = ended - started
    return {"seconds": seconds, "dump_seconds": dump, **usage}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    runs = [run_once(arguments.routes) for _ in range(arguments.runs)]
    seconds = statistics.median(run["seconds"] for run in runs)
    dump = statistics.median(run["dump_seconds"] for run in runs)
    result = {
        "benchmark": "metalbond routes through one server to one client",
        "routes": arguments.routes,
        "runs": arguments.runs,
        "routes_per_second": round(arguments.routes / seconds),
        "dump_routes_per_second": round(arguments.routes / dump),
        "seconds": [round(run["seconds"], 3) for run in runs],
        "dump_seconds": [round(run["dump_seconds"], 3) for run in runs],
        "server_cpu_seconds": round(statistics.median(run["cpu_seconds"] for run in runs), 3),
        "server_max_rss_mib": round(max(run["max_rss_mib"] for run in runs), 1),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
