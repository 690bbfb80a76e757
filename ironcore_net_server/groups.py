"""API groups of this room, as a server process finds them by entry point."""

from __future__ import annotations

from ironcore.apinet.v1 import (
    daemon_set_pb2,
    instance_pb2,
    ip_address_pb2,
    ip_pb2,
    load_balancer_pb2,
    load_balancer_routing_pb2,
    nat_gateway_autoscaler_pb2,
    nat_gateway_pb2,
    nat_table_pb2,
    network_id_pb2,
    network_interface_pb2,
    network_pb2,
    network_policy_pb2,
    network_policy_rule_pb2,
    node_pb2,
)
from ironcore.ipam.v1 import prefix_allocation_pb2, prefix_pb2
from ironcore.networking.v1 import load_balancer_pb2 as tenant_load_balancer_pb2
from ironcore.networking.v1 import load_balancer_routing_pb2 as tenant_load_balancer_routing_pb2
from ironcore.networking.v1 import nat_gateway_pb2 as tenant_nat_gateway_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_network_interface_pb2
from ironcore.networking.v1 import network_pb2 as tenant_network_pb2
from ironcore.networking.v1 import network_policy_pb2 as tenant_network_policy_pb2
from ironcore.networking.v1 import virtual_ip_pb2

from apimachinery.resource import ApiGroup, GroupContext, ResourceKind
from ironcore_net_server.apinet.addresses import PublicAddresses
from ironcore_net_server.apinet.daemon_set import DaemonSetHooks
from ironcore_net_server.apinet.instance import InstanceHooks
from ironcore_net_server.apinet.ip import IPHooks
from ironcore_net_server.apinet.ip_address import IPAddressHooks
from ironcore_net_server.apinet.load_balancer import LoadBalancerHooks
from ironcore_net_server.apinet.nat_gateway import NATGatewayHooks
from ironcore_net_server.apinet.nat_gateway_autoscaler import NATGatewayAutoscalerHooks
from ironcore_net_server.apinet.nat_table import NATTableHooks
from ironcore_net_server.apinet.network import NetworkHooks
from ironcore_net_server.apinet.network_id import NetworkIDHooks
from ironcore_net_server.apinet.network_ids import NetworkIds
from ironcore_net_server.apinet.network_interface import NetworkInterfaceHooks
from ironcore_net_server.apinet.network_policy import NetworkPolicyHooks, NetworkPolicyRuleHooks
from ironcore_net_server.apinet.node import NodeHooks
from ironcore_net_server.apinet.settings import ApinetSettings
from ironcore_net_server.ipam.prefix import PrefixHooks
from ironcore_net_server.ipam.prefix_allocation import PrefixAllocationHooks
from ironcore_net_server.networking.load_balancer import LoadBalancerHooks as TenantLoadBalancerHooks
from ironcore_net_server.networking.nat_gateway import NATGatewayHooks as TenantNATGatewayHooks
from ironcore_net_server.networking.network import NetworkHooks as TenantNetworkHooks
from ironcore_net_server.networking.network_interface import NetworkInterfaceHooks as TenantNetworkInterfaceHooks
from ironcore_net_server.networking.network_policy import NetworkPolicyHooks as TenantNetworkPolicyHooks


def networking(context: GroupContext) -> ApiGroup:
    """What tenants declare: networking.ironcore.dev."""
    return ApiGroup(
        "networking",
        [
            ResourceKind(tenant_network_pb2.Network, TenantNetworkHooks()),
            ResourceKind(tenant_network_interface_pb2.NetworkInterface, TenantNetworkInterfaceHooks()),
            ResourceKind(virtual_ip_pb2.VirtualIP),
            ResourceKind(tenant_load_balancer_pb2.LoadBalancer, TenantLoadBalancerHooks()),
            ResourceKind(tenant_load_balancer_routing_pb2.LoadBalancerRouting),
            ResourceKind(tenant_nat_gateway_pb2.NATGateway, TenantNATGatewayHooks()),
            ResourceKind(tenant_network_policy_pb2.NetworkPolicy, TenantNetworkPolicyHooks()),
        ],
    )


def ipam(context: GroupContext) -> ApiGroup:
    """Address ranges of tenants: ipam.ironcore.dev."""
    return ApiGroup(
        "ipam",
        [
            ResourceKind(prefix_pb2.Prefix, PrefixHooks()),
            ResourceKind(prefix_allocation_pb2.PrefixAllocation, PrefixAllocationHooks()),
        ],
    )


def apinet(context: GroupContext) -> ApiGroup:
    """The fabric: core.apinet.ironcore.dev. Options as in ApinetSettings. Raises InvalidArgument."""
    settings = ApinetSettings.from_options(context.options)
    addresses = PublicAddresses(context.store, settings)
    ids = NetworkIds(context.store, settings)
    return ApiGroup(
        "apinet",
        [
            ResourceKind(network_pb2.Network, NetworkHooks(ids)),
            ResourceKind(network_id_pb2.NetworkID, NetworkIDHooks(ids)),
            ResourceKind(network_interface_pb2.NetworkInterface, NetworkInterfaceHooks(addresses)),
            ResourceKind(ip_pb2.IP, IPHooks(addresses)),
            ResourceKind(ip_address_pb2.IPAddress, IPAddressHooks(addresses)),
            ResourceKind(load_balancer_pb2.LoadBalancer, LoadBalancerHooks(addresses)),
            ResourceKind(load_balancer_routing_pb2.LoadBalancerRouting),
            ResourceKind(instance_pb2.Instance, InstanceHooks()),
            ResourceKind(daemon_set_pb2.DaemonSet, DaemonSetHooks()),
            ResourceKind(nat_gateway_pb2.NATGateway, NATGatewayHooks(addresses)),
            ResourceKind(nat_gateway_autoscaler_pb2.NATGatewayAutoscaler, NATGatewayAutoscalerHooks()),
            ResourceKind(nat_table_pb2.NATTable, NATTableHooks()),
            ResourceKind(network_policy_pb2.NetworkPolicy, NetworkPolicyHooks()),
            ResourceKind(network_policy_rule_pb2.NetworkPolicyRule, NetworkPolicyRuleHooks()),
            ResourceKind(node_pb2.Node, NodeHooks()),
        ],
    )
