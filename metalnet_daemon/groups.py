"""The metalnet API group, as a server process finds it."""

from __future__ import annotations

from ironcore.metalnet.v1 import load_balancer_pb2, network_interface_pb2, network_pb2, node_pb2

from apimachinery.liveness import HeartbeatHooks
from apimachinery.resource import ApiGroup, GroupContext, ResourceKind

from .kinds.load_balancer import LoadBalancerHooks
from .kinds.network import NetworkHooks
from .kinds.network_interface import NetworkInterfaceHooks


def metalnet(context: GroupContext) -> ApiGroup:
    """Networks, interfaces, load balancers and nodes of one partition."""
    return ApiGroup(
        "metalnet",
        [
            ResourceKind(network_pb2.Network, NetworkHooks()),
            ResourceKind(network_interface_pb2.NetworkInterface, NetworkInterfaceHooks()),
            ResourceKind(load_balancer_pb2.LoadBalancer, LoadBalancerHooks()),
            ResourceKind(node_pb2.Node, HeartbeatHooks[node_pb2.Node]()),
        ],
    )
