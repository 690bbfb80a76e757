"""An engine that only records what reaches it, for tests of what happens before and after."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from dpservice import _engine
from dpservice.calls import Api, RpcError, answer

V4, V6 = bytes([10, 0, 0, 1]), socket.inet_pton(socket.AF_INET6, "2001:db8::1")
UNDERLAY = socket.inet_pton(socket.AF_INET6, "fc00:1::d000:0:1")
ALLOWED = socket.inet_pton(socket.AF_INET6, "fc00:1::8000:0:1")
NAT = SimpleNamespace(nat_ip=V4, min_port=1, max_port=9, underlay=UNDERLAY)
BALANCER = SimpleNamespace(id=b"lb\xff", vni=7, ip=V6, ports=[SimpleNamespace(protocol=6, port=80)], underlay=UNDERLAY)


def status_error(code: int, name: str) -> _engine.StatusError:
    """As the engine raises it."""
    error = _engine.StatusError(name)
    error.code, error.name = code, name
    return error


class RecordingEngine:
    """Answers everything with fixed values; `calls` holds what was asked, `refusal` makes it refuse."""

    def __init__(self, *, initialized: bool = True) -> None:
        self.uuid = "UUID" if initialized else None
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.refusal: _engine.StatusError | None = None
        self.rule: Any = None
        self.capture: Any = None

    def check_initialized(self) -> str | None:
        return self.uuid

    def initialize(self) -> str:
        self.uuid = "UUID"
        return self.uuid

    def version(self) -> str:
        return "v1"

    def preferred_underlay_allowed(self, address: bytes) -> bool:
        return address == ALLOWED

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls.append((name, arguments))
            if self.refusal:
                raise self.refusal
            return {
                "create_interface": SimpleNamespace(underlay=UNDERLAY, netdev_name="vf0"),
                "create_prefix": UNDERLAY,
                "create_lb_prefix": UNDERLAY,
                "create_vip": UNDERLAY,
                "create_nat": UNDERLAY,
                "create_load_balancer": UNDERLAY,
                "list_prefixes": [SimpleNamespace(prefix=(V4, 24), underlay=UNDERLAY)],
                "list_routes": [SimpleNamespace(prefix=(V6, 64), nexthop_vni=7, nexthop=UNDERLAY, vni=1)],
                "check_vni_in_use": True,
                "get_vip": SimpleNamespace(vip=V4, underlay=UNDERLAY),
                "get_nat": NAT,
                "list_local_nats": [SimpleNamespace(inside=V6, vni=7, nat=NAT, flows=3)],
                "list_neighbor_nats": [SimpleNamespace(nat_ip=V4, vni=7, min_port=1, max_port=9, underlay=UNDERLAY)],
                "get_load_balancer": BALANCER,
                "list_load_balancers": [BALANCER],
                "list_load_balancer_targets": [UNDERLAY],
                "get_firewall_rule": SimpleNamespace(rule=self.rule, hits=5),
                "capture_stop": 2,
                "capture_status": SimpleNamespace(active=self.capture is not None, config=self.capture),
                "list_firewall_rules": [SimpleNamespace(rule=self.rule, hits=5)],
            }.get(name)

        return call


def ask(method: str, request: Message, engine: RecordingEngine | None = None, **options: bool) -> Any:
    """The response; `options` are those of Api."""
    return answer(Api(engine or RecordingEngine(), **options), method, request).response  # type: ignore[arg-type]


def refused(method: str, request: Message) -> str:
    """Text of INVALID_ARGUMENT; nothing may have reached the engine."""
    engine = RecordingEngine()
    with pytest.raises(RpcError) as caught:
        ask(method, request, engine)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert engine.calls == []
    return caught.value.text
