"""Network policy of a tenant."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.meta.v1 import types_pb2
from ironcore.networking.v1 import network_policy_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks
from ironcore_net_server.policy_rules import check_policy


class NetworkPolicyHooks(ResourceHooks[network_policy_pb2.NetworkPolicy]):
    """A direction that has rules is governed, whether policyTypes names it or not."""

    def default(self, obj: network_policy_pb2.NetworkPolicy, old: network_policy_pb2.NetworkPolicy | None) -> None:
        types = set(obj.spec.policy_types)
        if len(types) != len(obj.spec.policy_types):
            return  # A duplicate is the user's mistake and is reported, not repaired.
        if obj.spec.ingress:
            types.add(types_pb2.POLICY_TYPE_INGRESS)
        if obj.spec.egress:
            types.add(types_pb2.POLICY_TYPE_EGRESS)
        # In the order of their texts, Egress first, as the reference stores them.
        obj.spec.policy_types[:] = sorted(types, reverse=True)
        # An absent selector means all interfaces; stored, so that no reader has to know.
        obj.spec.network_interface_selector.SetInParent()

    def validate(
        self, obj: network_policy_pb2.NetworkPolicy, old: network_policy_pb2.NetworkPolicy | None
    ) -> Iterable[FieldViolation]:
        return check_policy(obj.spec)
