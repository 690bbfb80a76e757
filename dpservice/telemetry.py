"""DPDK telemetry (version 2) of our own: the EAL's server would read what the workers write.

A SEQPACKET socket; a greeting, then one JSON object per request `command` or `command,parameters`. Unknown commands and
bad parameters are answered with null, as by the EAL.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from dpservice import _engine
from dpservice.observation import (
    Observation,
    blocks,
    heap_statistics,
    node_packets,
    observe,
    port_statistics,
    table_saturation,
    virtual_service_ports,
)

_log = structlog.get_logger("service")

Json = None | int | str | list["Json"] | dict[str, "Json"]
Command = Callable[[Observation, str], Json]

SOCKET_NAME = "dpdk_telemetry.v2"
MAX_OUTPUT = 128 * 1024
MAX_CLIENTS = 10
_MAX_INSTANCES = 10
_MAX_REQUEST = 1024


class BadParameters(Exception):  # noqa: N818 - an answer, no failure
    """The command does not take these parameters."""


def _index(parameters: str, count: int) -> int:
    """The first parameter: a number below `count`."""
    word = parameters.split(",")[0]
    if not (word.isascii() and word.isdecimal() and len(word) < 10 and int(word) < count):
        raise BadParameters
    return int(word)


def _port(observation: Observation, parameters: str) -> _engine.PortCounters:
    ports = observation.counters.ports
    return ports[_index(parameters, len(ports))]


def _port_info(observation: Observation, parameters: str) -> Json:
    port = _port(observation, parameters)
    return {"name": port.device_name, "port_id": observation.counters.ports.index(port)}


def _link_status(observation: Observation, parameters: str) -> Json:
    return {"status": "UP" if _port(observation, parameters).link_up else "DOWN"}


def _heap_info(observation: Observation, parameters: str) -> Json:
    index = _index(parameters or "0", len(observation.heaps))
    heap = observation.heaps[index]
    return {"Head_id": index, "Name": f"socket_{heap.socket}", **heap_statistics(heap)}


def _graph(values: Callable[[Observation], Mapping[str, int]]) -> Command:
    return lambda observation, _: {name: dict(block) for name, block in blocks(values(observation))}


def _cycles(observation: Observation) -> dict[str, int]:
    return {f"worker-{worker.lcore}": worker.busy_cycles for worker in observation.counters.workers}


def _packets(observation: Observation) -> dict[str, int]:
    return node_packets(observation.counters)


# Command: what it tells, and how. A packet is a call of its own here, hence the two equal graph counters.
COMMANDS: dict[str, tuple[str, Command]] = {
    "/dp_service/firewall/rule_count": (
        "Firewall rules by interface",
        lambda observation, _: {name: len(rules) for name, rules in observation.rule_hits.items()},
    ),
    "/dp_service/graph/call_count": ("Packets by graph node", _graph(_packets)),
    "/dp_service/graph/cycle_count": ("Cycles spent on packets, by worker", _graph(_cycles)),
    "/dp_service/graph/obj_count": ("Packets by graph node", _graph(_packets)),
    "/dp_service/graph/realloc_count": ("Empty: nothing is reallocated", _graph(lambda _: {})),
    "/dp_service/nat/used_port_count": (
        "Flows that use NAT ports, by interface",
        lambda observation, _: dict(observation.nat_flows),
    ),
    "/dp_service/table/saturation": (
        "Capacity and entries of tables",
        lambda observation, _: {name: dict(level) for name, level in table_saturation(observation).items()},
    ),
    "/dp_service/virtsvc/used_port_count": (
        "Ports in use by virtual service",
        lambda observation, _: dict(virtual_service_ports(observation)),
    ),
    "/eal/heap_info": ("Heap of a NUMA node. Parameter: its index", _heap_info),
    "/eal/heap_list": ("Indexes of heaps", lambda observation, _: list(range(len(observation.heaps)))),
    "/ethdev/info": ("Name of a port. Parameter: its number", _port_info),
    "/ethdev/link_status": ("Link of a port. Parameter: its number", _link_status),
    "/ethdev/list": ("Numbers of ports", lambda observation, _: list(range(len(observation.counters.ports)))),
    "/ethdev/xstats": (
        "Counters of a port. Parameter: its number",
        lambda observation, parameters: dict(port_statistics(_port(observation, parameters))),
    ),
}


def answer(observation: Callable[[], Observation], request: bytes) -> bytes:
    """Answer to one request, at most MAX_OUTPUT bytes; `observation` is called if the command needs one."""
    command, _, parameters = request.rstrip(b"\0").decode(errors="replace").partition(",")
    value: Json = None
    if command == "/":
        value = [*sorted(["/", "/help", "/info", *COMMANDS])]
    elif command == "/help":
        value = {parameters: COMMANDS[parameters][0]} if parameters in COMMANDS else None
    elif command == "/info":
        value = _info()
    elif command in COMMANDS:
        with contextlib.suppress(BadParameters):
            value = COMMANDS[command][1](observation(), parameters)
    encoded = json.dumps({command or "none": value}, separators=(",", ":")).encode()
    return encoded if len(encoded) <= MAX_OUTPUT else json.dumps({command: None}).encode()


def _info() -> dict[str, Json]:
    return {"version": _engine.dpdk_version(), "pid": os.getpid(), "max_output_len": MAX_OUTPUT}


class TelemetryServer:
    """Serves clients one after the other in a thread of its own; none of them can make it wait."""

    def __init__(self, engine: _engine.Engine, directory: Path) -> None:
        """Listens in `directory`, which is made if need be. Raises OSError."""
        self._engine = engine
        self._selector = selectors.DefaultSelector()
        self._clients: set[socket.socket] = set()
        self._wake, self._woken = socket.socketpair()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._listener, self.path = _listen(directory)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends all connections and removes the socket."""
        self._wake.send(b"x")
        self._thread.join()
        for one in (*self._clients, self._listener, self._wake, self._woken):
            one.close()
        self._selector.close()
        self.path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is self._woken:
                    return
                if ready is self._listener:
                    self._accept()
                else:
                    self._serve(ready)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            _log.debug("telemetry client lost", error=str(error))
            return
        client.setblocking(False)
        if len(self._clients) >= MAX_CLIENTS or not _send(client, json.dumps(_info()).encode()):
            client.close()
            return
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ)

    def _serve(self, client: socket.socket) -> None:
        try:
            request = client.recv(_MAX_REQUEST)
        except OSError:
            request = b""
        # One that does not read its answers is let go.
        if not request or not _send(client, self._answer(request)):
            self._clients.discard(client)
            self._selector.unregister(client)
            client.close()

    def _answer(self, request: bytes) -> bytes:
        try:
            return answer(lambda: observe(self._engine), request)
        except Exception:
            _log.exception("telemetry request crashed", request=request)
            return b"null"


def _send(client: socket.socket, message: bytes) -> bool:
    try:
        client.send(message)
    except OSError:
        return False
    return True


def _listen(directory: Path) -> tuple[socket.socket, Path]:
    """Listens on the first name that no living process has: several may share a directory."""
    for instance in range(_MAX_INSTANCES):
        path = directory / (SOCKET_NAME if instance == 0 else f"{SOCKET_NAME}:{instance}")
        if _alive(path):
            continue
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.bind(str(path))
            listener.listen(MAX_CLIENTS)
        except OSError:
            listener.close()
            raise
        listener.setblocking(False)
        return listener, path
    raise OSError(f"{directory}: {_MAX_INSTANCES} processes serve telemetry here already")


def _alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            pass  # so many wait there that somebody must be
        except OSError:
            return False
    return True
