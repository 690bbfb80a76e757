import pytest
from ironcore.apinet.v1 import network_pb2 as apinet_network_pb2
from ironcore.apinet.v1 import node_pb2
from ironcore.meta.v1 import meta_pb2, options_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.errors import InvalidArgument
from apimachinery.scheme import NotAKindError, Scheme, kind_info, resolve_path

PACKAGES = ("ironcore.networking.v1", "ironcore.ipam.v1", "ironcore.apinet.v1", "ironcore.metalnet.v1")


def test_a_kind_is_read_from_its_contract() -> None:
    info = kind_info(apinet_network_pb2.Network)
    assert (info.api_version, info.kind, info.plural) == ("core.apinet.ironcore.dev/v1alpha1", "Network", "networks")
    assert (info.group, info.namespaced, info.has_status) == ("apinet", True, True)
    assert info.service_name == "ironcore.apinet.v1.NetworkService"
    assert info.indexed_fields[:2] == ("metadata.name", "metadata.namespace")
    assert "spec.id" in info.indexed_fields
    assert {"Get", "Watch", "UpdateStatus"} <= info.methods.keys()
    assert info.write_class is apinet_network_pb2.NetworkWriteRequest
    assert kind_info(apinet_network_pb2.Network()) is info


def test_store_keys() -> None:
    network, node = kind_info(network_pb2.Network), kind_info(node_pb2.Node)
    assert network.key("ns", "a") == "/networking/networks/ns/a"
    assert network.prefix("ns") == "/networking/networks/ns/"
    assert network.split_key("/networking/networks/ns/a") == ("ns", "a")
    assert node.key("ignored", "p.n") == "/apinet/nodes/_/p.n"
    assert node.prefix("ignored") == "/apinet/nodes/"
    assert node.split_key("/apinet/nodes/_/p.n") == ("", "p.n")
    assert network.namespace_or_default("") == "default"
    assert node.namespace_or_default("x") == ""
    assert str(network.ref("ns", "a")) == 'networks.networking "ns/a"'


def test_every_contract_is_complete_and_has_a_key_of_its_own() -> None:
    scheme = Scheme.from_packages(*PACKAGES)
    assert len({info.key("n", "x") for info in scheme}) == len(scheme) >= 20
    for info in scheme:
        assert info.methods.keys() >= {"Get", "List", "Watch", "Create", "Update", "Apply", "Delete"}
        assert ("UpdateStatus" in info.methods) == info.has_status
        for column in info.columns:
            assert resolve_path(info.descriptor, column.path)


def test_lookup_by_what_people_write() -> None:
    scheme = Scheme.from_packages(*PACKAGES)
    assert scheme.resolve("networks").group == "networking"
    assert scheme.resolve("net").kind == "Network"
    assert scheme.resolve("Network.apinet").group == "apinet"
    assert scheme.resolve("networks.core.apinet.ironcore.dev").group == "apinet"
    assert {info.group for info in scheme.find("network")} == {"networking", "apinet", "metalnet"}
    assert scheme.get("networking.ironcore.dev/v1alpha1", "Network") is kind_info(network_pb2.Network)
    assert scheme.get("networking.ironcore.dev/v1", "Network") is None
    with pytest.raises(InvalidArgument, match='no kind is called "nope"'):
        scheme.resolve("nope")


def test_messages_that_are_no_kinds() -> None:
    with pytest.raises(NotAKindError):
        kind_info(meta_pb2.ObjectMeta)
    with pytest.raises(NotAKindError):
        resolve_path(network_pb2.Network.DESCRIPTOR, "spec.nope")
    with pytest.raises(NotAKindError):
        resolve_path(network_pb2.Network.DESCRIPTOR, "metadata.name.more")
    assert kind_info(network_pb2.Network).name_format == options_pb2.FORMAT_DNS_SUBDOMAIN
