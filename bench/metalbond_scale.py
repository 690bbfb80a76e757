"""Scale of one route server. Prints JSON.

    python bench/metalbond_scale.py [--routes 1000000] [--subscribers 1000] [--peers 10] [--only PART]

* memory: resident bytes per route of a server that holds the routes in one VNI, from the growth of its process;
* dump: the time until a new subscriber's socket has taken all of them (the other end reads and throws away);
* fan-out: updates/s through a server on one core to `peers` subscribers that read and throw away, and the same rate
  with `subscribers`, each update written to each of them;
* convergence: milliseconds from an announcement at one client to the callback at the others, clients in one process.

The server is a process of its own on loopback, the other ends are raw sockets in this one, so that they cost little.
On a machine with fewer than two free cores the two ends compete, and the rates are lower bounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import resource
import selectors
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from metalbond import codec
from metalbond.client import MetalbondClient
from metalbond.codec import Hello
from metalbond.main import run
from metalbond.server import MetalbondServer, ServerConfig
from metalbond.types import Destination, NextHop, Route

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))

VNI = 100
EXTENDED = Hello(3600, revision=1)


def serve(pipe: Connection) -> None:
    """Answers "usage" with (CPU seconds, resident bytes, routes) until "stop"."""

    async def work() -> None:
        server = MetalbondServer(ServerConfig(keepalive=3600, max_peer_routes=10**7, max_routes=10**7))
        await server.start(["[::1]:0"])
        pipe.send(server.addresses[0])
        while await asyncio.to_thread(pipe.recv) != "stop":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send((usage.ru_utime + usage.ru_stime, resident(), len(server.distributor)))
        await server.close()

    run(work())


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Server:
    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there,))
        self._process.start()
        self.address = self._hear()

    def _hear(self) -> Any:
        if not self._pipe.poll(120):
            raise TimeoutError("the server says nothing")
        return self._pipe.recv()

    def usage(self) -> tuple[float, int, int]:
        self._pipe.send("usage")
        found: tuple[float, int, int] = self._hear()
        return found

    def close(self) -> None:
        self._pipe.send("stop")
        self._process.join(30)
        self._process.kill()


class Peer:
    """A blocking socket with a session."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.sock = socket.create_connection((host.strip("[]"), int(port)), timeout=120)
        self.sock.sendall(codec.encode_hello(EXTENDED))
        self._expect(1)
        self.sock.sendall(codec.KEEPALIVE)
        self._expect(1)

    def _expect(self, frames: int) -> None:
        data = b""
        while len(codec.split(data)[0]) < frames:
            data += self.sock.recv(4096)

    def subscribe(self) -> None:
        self.sock.sendall(codec.encode_subscription(VNI, True))

    def barrier(self) -> None:
        """Returns when the server has executed what was sent; only for peers to which nothing else is written."""
        self.sock.sendall(codec.KEEPALIVE)
        self._expect(1)


def frames(count: int, *, add: bool = True) -> Iterator[bytes]:
    """Host routes in pieces of 1000."""
    hop = NextHop.to("fd00::2")
    for start in range(0, count, 1000):
        yield b"".join(
            codec.encode_update(add, Route(VNI, Destination((0x0A000000 + n).to_bytes(4), 32), hop))
            for n in range(start, min(start + 1000, count))
        )


def read_all(peers: list[Peer], expected: int) -> float:
    """Seconds until every peer has got so many bytes."""
    started = time.monotonic()
    buffer = bytearray(1 << 20)
    left = {peer.sock: expected for peer in peers}
    with selectors.DefaultSelector() as selector:
        for peer in peers:
            peer.sock.setblocking(False)
            selector.register(peer.sock, selectors.EVENT_READ)
        while left:
            ready = selector.select(60)
            if not ready:
                raise TimeoutError(f"{len(left)} peers wait for {sum(left.values())} bytes")
            for key, _ in ready:
                sock: Any = key.fileobj
                size = sock.recv_into(buffer)
                left[sock] -= size
                if left[sock] <= 0:
                    del left[sock]
                    selector.unregister(sock)
    return time.monotonic() - started


def memory_and_dump(routes: int) -> dict[str, float]:
    server = Server()
    try:
        announcer, subscriber = Peer(server.address), Peer(server.address)
        _, before, _ = server.usage()
        pieces = list(frames(routes))
        size = sum(map(len, pieces))
        started = time.monotonic()
        for piece in pieces:
            announcer.sock.sendall(piece)
        announcer.barrier()
        loading = time.monotonic() - started
        _, after, held = server.usage()
        assert held == routes
        cpu_before, *_ = server.usage()
        subscriber.subscribe()
        dumping = read_all([subscriber], size)
        cpu_after, with_subscriber, _ = server.usage()
    finally:
        server.close()
    return {
        "routes": routes,
        "bytes_per_route": round((after - before) / routes, 1),
        "bytes_per_route_and_subscriber": round((with_subscriber - after) / routes, 1),
        "load_routes_per_second": round(routes / loading),
        "dump_routes_per_second": round(routes / dumping),
        "dump_megabytes_per_second": round(size / dumping / 1e6, 1),
        "dump_server_cpu_seconds": round(cpu_after - cpu_before, 3),
    }


def fan_out(peers: int, updates: int) -> dict[str, float]:
    server = Server()
    try:
        subscribers = [Peer(server.address) for _ in range(peers)]
        for peer in subscribers:
            peer.subscribe()
            peer.barrier()
        announcer = Peer(server.address)
        pieces = list(frames(updates))
        size = sum(map(len, pieces))
        cpu_before, *_ = server.usage()
        sender = multiprocessing.get_context("fork").Process(target=announcer.sock.sendall, args=(b"".join(pieces),))
        started = time.monotonic()
        sender.start()
        read_all(subscribers, size)
        seconds = time.monotonic() - started
        sender.join(30)
        cpu = server.usage()[0] - cpu_before
    finally:
        server.close()
    return {
        "subscribers": peers,
        "updates": updates,
        "updates_per_second": round(updates / seconds),
        "frames_written_per_second": round(updates * peers / seconds),
        "server_cpu_seconds": round(cpu, 3),
        "updates_per_server_cpu_second": round(updates / cpu),
    }


class Stopwatch:
    def __init__(self) -> None:
        self.seen: dict[Destination, float] = {}

    def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None:
        self.seen[destination] = time.monotonic()

    def route_removed(self, vni: int, destination: Destination, hop: NextHop) -> None:
        """When the clients end."""


def convergence(clients: int, rounds: int) -> dict[str, float]:
    server = Server()

    async def work() -> list[float]:
        watches = [Stopwatch() for _ in range(clients)]
        members = [MetalbondClient([server.address], backend=watch) for watch in watches]
        for member in members:
            member.subscribe(VNI)
            await member.start()
        for member in members:
            await member.wait_synced(VNI)
        delays = []
        for number in range(rounds):
            destination = Destination((0x0B000000 + number).to_bytes(4), 32)
            announcer = number % clients
            started = time.monotonic()
            members[announcer].announce(VNI, destination, NextHop.to("fd00::2"))
            others = [watch for index, watch in enumerate(watches) if index != announcer]
            async with asyncio.timeout(30):
                while not all(destination in watch.seen for watch in others):  # noqa: ASYNC110 # measured elsewhere
                    await asyncio.sleep(0)
            delays += [1000 * (watch.seen[destination] - started) for watch in others]
        for member in members:
            await member.close()
        return delays

    try:
        delays: list[float] = []

        async def measure() -> None:
            delays.extend(await work())

        run(measure())
    finally:
        server.close()
    cuts = statistics.quantiles(delays, n=100)
    return {
        "clients": clients,
        "announcements": rounds,
        "p50_ms": round(cuts[49], 3),
        "p99_ms": round(cuts[98], 3),
        "max_ms": round(max(delays), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, default=1_000_000)
    parser.add_argument("--subscribers", type=int, default=1_000)
    parser.add_argument("--peers", type=int, default=10)
    parser.add_argument("--updates", type=int, default=200_000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--only", choices=["memory", "peers", "subscribers", "convergence"])
    arguments = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "memory": lambda: memory_and_dump(arguments.routes),
        "peers": lambda: fan_out(arguments.peers, arguments.updates),
        "subscribers": lambda: fan_out(arguments.subscribers, max(1000, arguments.updates // 100)),
        "convergence": lambda: convergence(arguments.clients, 500),
    }
    result: dict[str, Any] = {name: part() for name, part in parts.items() if arguments.only in (None, name)}
    result |= {
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
