"""rtnetlink: read and change routes, look at the tunnel device, hear of changes by others."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from metalbond.kernel import codec
from metalbond.kernel.plan import PROTOCOL, Installed, Key, Operation, Replace
from metalbond.types import Destination

BATCH = 64
"""Changes per system call; the kernel's answers to them fit any receive buffer."""
TIMEOUT = 10.0
MAKE_TUNNEL = "ip link add {} type ip6tnl mode any external"

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETROUTE = 16, 17, 26
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x400
_DUMP_INTERRUPTED = 0x10
_ACK_TLVS = 0x200
_SOL_NETLINK, _EXT_ACK, _CAP_ACK, _STRICT = 270, 11, 10, 12
_GROUPS = 1 << 0 | 1 << 6 | 1 << 10
"""RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE."""
_PROBED = Destination.parse("192.0.2.0/24")
_PROBE_TUNNEL = "metalbond-probe"


class KernelError(OSError):
    """The kernel refuses something, or lacks it; the message is for the operator."""


@dataclass(frozen=True, slots=True)
class Device:
    index: int
    up: bool


@dataclass(frozen=True, slots=True)
class Failure:
    operation: Operation
    error: str


class Routes:
    """Routes of this host's (the opening thread's) network namespace. Calls block for as long as the kernel works, and
    must not overlap.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(TIMEOUT)
        self._socket.bind((0, 0))
        for option in (_EXT_ACK, _CAP_ACK, _STRICT):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._numbers = itertools.cycle(range(1, 1 << 31))

    @property
    def port(self) -> int:
        """The kernel's name for this socket, in notifications of what it did."""
        return int(self._socket.getsockname()[0])

    def close(self) -> None:
        self._socket.close()

    def read(self, tables: Collection[int], device: int) -> dict[Key, Installed]:
        """All routes under our protocol number in these tables. Raises OSError."""
        found: dict[Key, Installed] = {}
        for table in tables:
            for family in codec.VERSIONS:
                for payload in self._dump(codec.encode_filter(family, table)):
                    if route := codec.decode_route(payload, device):
                        found[route[0]] = route[1]
        return found

    def apply(self, operations: Sequence[Operation], device: int) -> list[Failure]:
        """Carry all of them out, in order; those that failed. Raises OSError if the kernel does not answer."""
        failures: list[Failure] = []
        for start in range(0, len(operations), BATCH):
            batch = operations[start : start + BATCH]
            messages = [self._message(operation, device) for operation in batch]
            for operation, (code, text) in zip(batch, self._send(messages), strict=True):
                gone = not isinstance(operation, Replace) and code in (errno.ESRCH, errno.ENOENT)
                if code and not gone:
                    failures.append(Failure(operation, text or os.strerror(code)))
        return failures

    def probe(self, device: int) -> None:
        """Raises KernelError if the kernel cannot tunnel routes over IPv6. Changes nothing: without NLM_F_CREATE it
        checks the route and then finds nothing to change.
        """
        payload = codec.encode_route(Key(codec.PROBE_TABLE, _PROBED, 0), (codec.GATEWAY,), device)
        [(code, text)] = self._send([(codec.RTM_NEWROUTE, _REQUEST | _ACK, payload)])
        if code == errno.EOPNOTSUPP:
            raise KernelError(f"this kernel has no lightweight tunnels over IPv6 (CONFIG_LWTUNNEL): {text}")
        if code in (errno.EPERM, errno.EACCES):
            raise KernelError("changing routes needs the capability NET_ADMIN")

    def _message(self, operation: Operation, device: int) -> tuple[int, int, bytes]:
        if isinstance(operation, Replace):
            payload = codec.encode_route(operation.key, operation.hops, device)
            return codec.RTM_NEWROUTE, _REQUEST | _ACK | _CREATE | _REPLACE, payload
        return codec.RTM_DELROUTE, _REQUEST | _ACK, codec.encode_route(operation.key, (), device)

    def _send(self, messages: Sequence[tuple[int, int, bytes]]) -> list[tuple[int, str]]:
        """Error number (0: done) and the kernel's explanation, for each."""
        numbers = [next(self._numbers) for _ in messages]
        self._socket.send(
            b"".join(
                _HEADER.pack(_HEADER.size + len(payload), kind, flags, number, 0) + payload + bytes(-len(payload) % 4)
                for number, (kind, flags, payload) in zip(numbers, messages, strict=True)
            )
        )
        answers: dict[int, tuple[int, str]] = {}
        while len(answers) < len(messages):
            for kind, flags, number, _, payload in _split(self._socket.recv(1 << 17)):
                if kind == _NLMSG_ERROR:
                    answers[number] = _explained(flags, payload)
        return [answers[number] for number in numbers]

    def _dump(self, request: bytes) -> list[bytes]:
        while True:
            number = next(self._numbers)
            flags = _REQUEST | _DUMP
            self._socket.send(_HEADER.pack(_HEADER.size + len(request), _RTM_GETROUTE, flags, number, 0) + request)
            payloads, interrupted = self._dumped(number)
            if not interrupted:
                return payloads

    def _dumped(self, number: int) -> tuple[list[bytes], bool]:
        payloads: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, answered, _, payload in _split(self._socket.recv(1 << 17)):
                if answered != number:
                    continue
                interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
                if kind == codec.RTM_NEWROUTE:
                    payloads.append(payload)
                    continue
                code, text = _explained(flags, payload) if kind == _NLMSG_ERROR else (_done(payload), "")
                # A table without routes does not exist.
                if code not in (0, errno.ENOENT):
                    raise OSError(code, text or os.strerror(code))
                return payloads, interrupted


class Notifications:
    """Calls `changed` on the event loop when somebody else changed routes of `tables` that are under our protocol
    number, when the device changed, or when the kernel had more to say than it could.
    """

    def __init__(self, tables: Collection[int], device: str, own_port: int, changed: Callable[[], None]) -> None:
        self._tables, self._name, self._own_port, self._changed = tables, device.encode(), own_port, changed
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_ROUTE)
        self._socket.bind((0, _GROUPS))
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(1 << 17)
        except BlockingIOError:
            return
        except OSError:
            # ENOBUFS: some are lost.
            self._changed()
            return
        if any(self._matters(kind, port, payload) for kind, _, _, port, payload in _split(data)):
            self._changed()

    def _matters(self, kind: int, port: int, payload: bytes) -> bool:
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            return self._name in codec.link_names(payload, _LINK.size)
        if port == self._own_port or kind not in (codec.RTM_NEWROUTE, codec.RTM_DELROUTE):
            return False
        table, protocol = codec.route_of_event(payload)
        return protocol == PROTOCOL and table in self._tables


# pyroute2 is imported where it is used: it takes 0.2 s, and most processes have no routes in the kernel.
def find_device(name: str) -> Device | None:
    """The tunnel device, None if there is none of this name. Blocks. Raises KernelError if it cannot be our tunnel."""
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as netlink:
        try:
            [link] = netlink.link("get", ifname=name)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
    info = dict(dict(link["attrs"]).get("IFLA_LINKINFO", {"attrs": ()})["attrs"])
    data = info.get("IFLA_INFO_DATA")
    settings = dict(data["attrs"]) if isinstance(data, dict) else {}
    if not any(key.endswith("_COLLECT_METADATA") and value not in (0, False) for key, value in settings.items()):
        kind = info.get("IFLA_INFO_KIND", "physical")
        make = MAKE_TUNNEL.format(name)
        raise KernelError(f"{name}: a device of kind {kind}, must be a tunnel in external mode: {make}")
    return Device(int(link["index"]), link["state"] == "up")


def why_no_device(name: str) -> str:
    """What an operator should do about a missing tunnel device. Tries to make one with an impossible MTU, which fails
    late if the kernel knows the kind, and early if it does not. Blocks.
    """
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as netlink:
        try:
            netlink.link("add", ifname=_PROBE_TUNNEL, kind="ip6tnl", mtu=1)
        except NetlinkError as error:
            if error.code == errno.EOPNOTSUPP:
                return f"{name}: no such device; this kernel cannot make it, it lacks CONFIG_IPV6_TUNNEL (ip6tnl)"
    return f"{name}: no such device; make it with: {MAKE_TUNNEL.format(name)} && ip link set {name} up"


def _split(data: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """(type, flags, sequence number, port, payload) of each message."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, flags, number, port = _HEADER.unpack_from(data, offset)
        yield kind, flags, number, port, data[offset + _HEADER.size : offset + size]
        offset += max(_HEADER.size, (size + 3) & ~3)


def _done(payload: bytes) -> int:
    return -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0


def _explained(flags: int, payload: bytes) -> tuple[int, str]:
    """Error number and text of an answer; the text comes with the kernel's extended acknowledgements."""
    code = _done(payload)
    text = codec.message_of_error(payload, 4 + _HEADER.size) if flags & _ACK_TLVS else ""
    return code, text
