"""Strangers' bytes for a server and a client of the route distribution protocol, in this process and without sockets.

    PYTHONPATH=. python -m tests.support.metalbond_fuzz --inputs 10000000 [--seed 1]

Inputs are recorded sessions (tests/golden/metalbond) that are cut, repeated, mixed and damaged. Each meets a fresh
connection at a real server, or plays the server for a real client. Whatever they are: no exception, nothing left behind
when the connection is gone, no hang, and no growth. Ends with 1 if that does not hold; the input is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from metalbond import codec
from metalbond.accepted import ServerConfig
from metalbond.client import MetalbondClient
from metalbond.peer import Peer
from metalbond.server import MetalbondServer
from metalbond.types import Destination, NextHop
from tests.support.simulation import SimulatedLoop

GOLDEN = Path(__file__).parents[1] / "golden" / "metalbond"
MAX_BYTES = 4096
HANG_SECONDS = 10
GROWTH_BYTES = 32 * 2**20
ADDRESS = "[fd00::1]:4711"


class FuzzSocket:
    """Gives one piece per read, and takes everything."""

    def __init__(self) -> None:
        self.piece: bytes | None = None
        self.closed = False

    def setblocking(self, flag: bool) -> None: ...

    def setsockopt(self, *_: Any) -> None: ...

    def watch(self, *_: Any) -> None: ...

    @property
    def watchers(self) -> dict[str, Any]:
        return {}

    def getpeername(self) -> tuple[Any, ...]:
        return ("fd00::1", 4711, 0, 0)

    getsockname = getpeername

    def recv(self, size: int) -> bytes:
        piece, self.piece = self.piece, None
        if piece is None:
            raise BlockingIOError
        return piece

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        return len(data)

    def close(self) -> None:
        self.closed = True


class Fuzzer:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._loop = SimulatedLoop()
        self._server_streams = _recorded("server_*.txt", ">")
        self._client_streams = _recorded("client_*.txt", "server>")
        config = ServerConfig(max_hold=0, max_peer_routes=100, max_routes=100, max_subscriptions=20, identity=b"s")
        asyncio._set_running_loop(self._loop)
        self._server = MetalbondServer(config)

    def close(self) -> None:
        asyncio._set_running_loop(None)
        self._loop.close()

    def next_input(self, streams: Sequence[bytes]) -> list[bytes]:
        """The pieces that single reads give."""
        chance = self.chance
        stream = chance.choice(streams)
        if chance.random() < 0.5:
            # Damage inside frames whose lengths are right, or most inputs end at the first header behind the damage.
            frames, _ = codec.split(stream)
            at = chance.randrange(len(frames))
            frames[at] = frames[at][0], self._damaged(frames[at][1], streams)[: codec.MAX_PAYLOAD]
            data = bytearray(b"".join(codec.frame(*frame) for frame in frames))
        else:
            data = bytearray(self._damaged(stream, streams))
        del data[MAX_BYTES:]
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((0, 0, 1, 3))))
        pieces = [bytes(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        return [piece for piece in pieces if piece]

    def _damaged(self, healthy: bytes, streams: Sequence[bytes]) -> bytes:
        chance, data = self.chance, bytearray(healthy)
        for _ in range(chance.choice((0, 1, 1, 2, 4, 8))):
            at = chance.randrange(len(data) + 1)
            end = min(len(data), at + chance.randrange(1, 40))
            match chance.randrange(6):
                case 0 if at < len(data):
                    data[at] ^= 1 << chance.randrange(8)
                case 1 if at < len(data):
                    data[at] = chance.choice((0, 1, 2, 4, 5, 16, 127, 128, 255, chance.randrange(256)))
                case 2:
                    del data[at:end]
                case 3:
                    data[at:at] = data[at:end]
                case 4:
                    data[at:at] = chance.randbytes(chance.randrange(1, 20))
                case _:
                    other = chance.choice(streams)
                    start = chance.randrange(len(other))
                    data[at:at] = other[start : start + chance.randrange(1, 200)]
        return bytes(data)

    def meet_server(self, pieces: list[bytes]) -> None:
        server, sock = self._server, FuzzSocket()
        server._adopt(sock)  # type: ignore[arg-type]
        [peer] = server._peers.values()
        self._feed(peer.peer, sock, pieces)
        if not sock.closed:
            peer.peer.close()
        assert sock.closed and not server._peers, "the connection is still there"
        assert len(server.distributor) == 0 and server.distributor.subscriptions() == 0, "something is left behind"

    def meet_client(self, pieces: list[bytes]) -> None:
        client = MetalbondClient([ADDRESS], backend=_Backend(), max_routes=100)
        client.subscribe(100)
        client.subscribe(123)
        client.announce(100, Destination(b"\x0a\0\0\0", 24), NextHop.to("fd00::2"))
        link, sock = client._links[ADDRESS], FuzzSocket()
        link._ended = self._loop.create_future()
        link._peer = peer = Peer(
            sock, link._config.session, link, stall_timeout=30, original_pace=link._config.original_pace
        )  # type: ignore[arg-type]
        peer.start()
        self._feed(peer, sock, pieces)
        if not sock.closed:
            peer.close()
        assert sock.closed and link._peer is None, "the connection is still there"
        client._union.sweep(ADDRESS)
        assert len(client._union.received) == 0, "something is left behind"

    def _feed(self, peer: Peer, sock: FuzzSocket, pieces: list[bytes]) -> None:
        for piece in pieces:
            if sock.closed:
                break
            sock.piece = piece
            peer.connection._readable()
            self._settle()
        self._settle()

    def _settle(self) -> None:
        ready: Any = self._loop._ready  # type: ignore[attr-defined]
        for _ in range(1000):
            if not ready:
                return
            handle = ready.popleft()
            if not handle.cancelled():
                handle._callback(*handle._args)
        raise AssertionError("the event loop never comes to rest")

    def run(self, inputs: int, report_every: int = 0) -> None:
        """Raises what the first bad input causes, with the input as a note."""
        baseline = 0
        started = time.monotonic()
        for number in range(inputs):
            role = number % 2
            pieces = self.next_input(self._client_streams if role else self._server_streams)
            begun = time.process_time()
            try:
                (self.meet_client if role else self.meet_server)(pieces)
                assert time.process_time() - begun < HANG_SECONDS, "took too long"
            except BaseException as error:
                what = ["server", "client"][role]
                error.add_note(f"input {number} for the {what}: {[piece.hex() for piece in pieces]}")
                raise
            scheduled: Any = self._loop._scheduled  # type: ignore[attr-defined]
            scheduled.clear()
            if number == min(20_000, inputs // 2):
                baseline = resident()
            if report_every and (number + 1) % report_every == 0:
                rate = (number + 1) / (time.monotonic() - started)
                print(f"{number + 1} inputs, {rate:.0f}/s, {resident() / 2**20:.0f} MiB", flush=True)
        growth = resident() - baseline
        assert growth < GROWTH_BYTES, f"grew by {growth} bytes"


class _Backend:
    def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None: ...

    def route_removed(self, vni: int, destination: Destination, hop: NextHop) -> None: ...


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _recorded(pattern: str, sender: str) -> list[bytes]:
    """What each party of the recorded sessions sends."""
    streams: dict[tuple[str, str], bytes] = {}
    for path in sorted(GOLDEN.glob(pattern)):
        for line in path.read_text().splitlines():
            word, _, wire = line.partition(" ")
            if word.endswith(sender) and not line.startswith("#"):
                key = path.stem, word
                streams[key] = streams.get(key, b"") + bytes.fromhex(wire)
    return list(streams.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    Fuzzer(arguments.seed).run(arguments.inputs, report_every=20_000)
    print("good")


if __name__ == "__main__":
    sys.exit(main())
