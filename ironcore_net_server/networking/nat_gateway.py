"""NAT gateway of a tenant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ironcore.networking.v1 import nat_gateway_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks
from ironcore_net_server.rules import check_power_of_two

DEFAULT_PORTS_PER_NETWORK_INTERFACE: Final = 2048


class NATGatewayHooks(ResourceHooks[nat_gateway_pb2.NATGateway]):
    """Ports per interface: a power of two, so that slots tile the port space."""

    def default(self, obj: nat_gateway_pb2.NATGateway, old: nat_gateway_pb2.NATGateway | None) -> None:
        if not obj.spec.ports_per_network_interface:
            obj.spec.ports_per_network_interface = DEFAULT_PORTS_PER_NETWORK_INTERFACE

    def validate(
        self, obj: nat_gateway_pb2.NATGateway, old: nat_gateway_pb2.NATGateway | None
    ) -> Iterable[FieldViolation]:
        return check_power_of_two(obj.spec.ports_per_network_interface, "spec.ports_per_network_interface")
