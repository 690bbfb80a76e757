"""Translation between apinet and metalnet, and the marks of origin."""

from __future__ import annotations

import pytest
from google.protobuf.text_format import Parse
from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.metalnet.v1 import network_interface_pb2 as metalnet_nic
from ironcore.metalnet.v1 import network_pb2 as metalnet_network

from apimachinery.informer import Key
from apimachinery.origin import Origin
from metalnet_daemon.metalnetlet import PartitionConfig
from metalnet_daemon.metalnetlet.translate import (
    INTERFACE_ORIGIN,
    NETWORK_ORIGIN,
    apinet_interface_status,
    apinet_node_name,
    metalnet_interface_of,
    metalnet_network_of,
    metalnet_node_name,
    network_id,
    peering_states,
)

META = meta_pb2.ObjectMeta(name="blue", namespace="team", uid="uid-blue", generation=3)


@pytest.mark.parametrize("text", ["", "0", "-1", "16777216", "999999999", "x", "1.0", "٣"])
def test_what_is_no_network_id(text: str) -> None:
    assert network_id(text) is None


def test_network_ids() -> None:
    assert network_id("1") == 1
    assert network_id("16777215") == 16777215


def test_node_names() -> None:
    assert apinet_node_name("p1", "h1.rack") == "p1.h1.rack"
    assert metalnet_node_name("p1", "p1.h1.rack") == "h1.rack"
    assert metalnet_node_name("p1", "p11.h1") is None
    assert metalnet_node_name("p1", "p1.") is None


def test_partitions_are_labels_so_that_node_names_are_unambiguous() -> None:
    with pytest.raises(ValueError, match="DNS label"):
        PartitionConfig("a.b")
    with pytest.raises(ValueError, match="DNS label"):
        PartitionConfig("")


def test_a_network_is_named_by_uid_and_carries_readable_peerings() -> None:
    spec = Parse(
        'id: "100" peerings { id: "200" name: "a" } peerings { id: "300" name: "b" prefixes { prefix: "10.0.0.0/8" } } '
        'peerings { id: "bad" name: "c" } peerings { id: "100" name: "self" }',
        apinet_network.NetworkSpec(),
    )
    source = apinet_network.Network(metadata=META, spec=spec)
    target = metalnet_network_of(source, "default", peering=True)
    assert target is not None
    assert (target.metadata.name, target.spec.id, list(target.spec.peered_ids)) == ("uid-blue", 100, [200, 300])
    assert [(entry.id, list(entry.prefixes)) for entry in target.spec.peered_prefixes] == [(300, ["10.0.0.0/8"])]
    assert NETWORK_ORIGIN.find(target) == Origin("team", "blue", "uid-blue")
    apart = metalnet_network_of(source, "default", peering=False)
    assert apart is not None
    assert not apart.spec.peered_ids
    assert metalnet_network_of(apinet_network.Network(metadata=META), "default", peering=True) is None


def test_a_peering_is_ready_when_both_sides_want_it() -> None:
    def network(vni: int, *peers: int) -> metalnet_network.Network:
        return metalnet_network.Network(spec=metalnet_network.NetworkSpec(id=vni, peered_ids=peers))

    one_sided, mutual = network(200), network(300, 100)
    states = peering_states(network(100, 400, 300, 200), {200: one_sided, 300: mutual})
    pending, ready = types_pb2.PEERING_STATE_PENDING, types_pb2.PEERING_STATE_READY
    assert [(state.id, state.state) for state in states] == [(200, pending), (300, ready), (400, pending)]


def test_an_interface_goes_down_whole() -> None:
    spec = Parse(
        'node_ref { name: "p1.h1" } network_ref { name: "blue" } ips: "10.0.0.1" ips: "fd00::1" hostname: "web" '
        'prefixes: "10.1.0.0/16" public_ips { name: "six" ip: "2001:db8::1" } '
        'public_ips { name: "four" ip: "192.0.2.1" }',
        apinet_nic.NetworkInterfaceSpec(),
    )
    target = metalnet_interface_of(apinet_nic.NetworkInterface(metadata=META, spec=spec), "uid-net", "h1", "default")
    expected = Parse(
        'network_ref { name: "uid-net" } ip_families: IP_FAMILY_IPV4 ip_families: IP_FAMILY_IPV6 ips: "10.0.0.1" '
        'ips: "fd00::1" virtual_ip: "192.0.2.1" prefixes: "10.1.0.0/16" node_name: "h1" hostname: "web"',
        metalnet_nic.NetworkInterfaceSpec(),
    )
    assert target.spec == expected
    assert list(INTERFACE_ORIGIN.keys(target)) == [Key("team", "blue")]


def realized(observed: int) -> metalnet_nic.NetworkInterface:
    status = Parse(
        'state: REALIZATION_STATE_READY tap_device { name: "dtapvf_0" } virtual_ip: "192.0.2.1" '
        'nat_ip { ip: "192.0.2.2" port: 1 end_port: 2 } prefixes: "10.1.0.0/16" '
        'conditions { type: "Ready" status: CONDITION_STATUS_TRUE observed_generation: 7 }',
        metalnet_nic.NetworkInterfaceStatus(observed_generation=observed),
    )
    return metalnet_nic.NetworkInterface(metadata=meta_pb2.ObjectMeta(generation=7), status=status)


def test_status_comes_up() -> None:
    source = apinet_nic.NetworkInterface(metadata=META)
    status = apinet_interface_status(source, realized(7))
    assert status == Parse(
        'state: REALIZATION_STATE_READY tap_device { name: "dtapvf_0" } public_ips: "192.0.2.1" nat_ips: "192.0.2.2" '
        'prefixes: "10.1.0.0/16" observed_generation: 3 '
        'conditions { type: "Ready" status: CONDITION_STATUS_TRUE observed_generation: 3 }',
        apinet_nic.NetworkInterfaceStatus(),
    )


def test_status_of_an_older_spec_does_not_count_as_current() -> None:
    source = apinet_nic.NetworkInterface(metadata=META, status=apinet_nic.NetworkInterfaceStatus(observed_generation=2))
    assert apinet_interface_status(source, realized(6)).observed_generation == 2
    untouched = metalnet_nic.NetworkInterface(metadata=meta_pb2.ObjectMeta(generation=1))
    assert apinet_interface_status(source, untouched).state == types_pb2.REALIZATION_STATE_PENDING


def test_an_incomplete_origin_is_none() -> None:
    target = metalnet_network.Network()
    NETWORK_ORIGIN.mark(target.metadata, META)
    assert INTERFACE_ORIGIN.find(target) is None
    del target.metadata.annotations["metalnetlet.ironcore.dev/network-name"]
    assert NETWORK_ORIGIN.find(target) is None
    assert list(NETWORK_ORIGIN.keys(target)) == []
