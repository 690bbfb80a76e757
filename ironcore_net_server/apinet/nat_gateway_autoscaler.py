"""NATGatewayAutoscaler: bounds of a gateway's addresses."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.apinet.v1 import nat_gateway_autoscaler_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks

NATGatewayAutoscaler = nat_gateway_autoscaler_pb2.NATGatewayAutoscaler


class NATGatewayAutoscalerHooks(ResourceHooks[NATGatewayAutoscaler]):
    """The lower bound does not exceed the upper one."""

    def validate(self, obj: NATGatewayAutoscaler, old: NATGatewayAutoscaler | None) -> Iterable[FieldViolation]:
        spec = obj.spec
        if spec.HasField("max_public_ips") and spec.min_public_ips > spec.max_public_ips:
            yield FieldViolation(
                "spec.min_public_ips", f"must not exceed max_public_ips, which is {spec.max_public_ips}"
            )
