from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ironcore.apinet.v1 import network_interface_pb2, network_pb2
from ironcore.ipam.v1 import prefix_pb2
from ironcore.meta.v1 import meta_pb2, options_pb2, types_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_nic_pb2
from ironcore.networking.v1 import sources_pb2

from apimachinery import formats
from apimachinery.scheme import kind_info
from apimachinery.validation import (
    MAX_ANNOTATIONS_BYTES,
    MAX_OBJECT_BYTES,
    carry_over,
    check_rules,
    check_transition,
    normalize,
    validate,
)

NIC = kind_info(network_interface_pb2.NetworkInterface)
NETWORK = kind_info(network_pb2.Network)
UID = "8d3ef7bb-7a5a-4a0f-9d3c-16c2ba0e6a2b"


def nic(change: Callable[[Any], None] = lambda _: None) -> network_interface_pb2.NetworkInterface:
    obj = network_interface_pb2.NetworkInterface(metadata={"name": "nic", "namespace": "default"})
    obj.spec.node_ref.name = "node"
    obj.spec.network_ref.name = "blue"
    obj.spec.ips.append("10.0.0.1")
    change(obj)
    return obj


def found(obj: Any, old: Any = None, info: Any = NIC) -> dict[str, str]:
    return {violation.field: violation.message for violation in validate(info, obj, old)}


def test_a_good_object_has_no_violation() -> None:
    assert found(nic()) == {}
    assert found(nic(), nic()) == {}


CASES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("metadata.name", lambda o: o.metadata.ClearField("name"), "is required unless"),
    ("metadata.name", lambda o: setattr(o.metadata, "name", "Nic"), "must be a DNS label"),
    ("metadata.name", lambda o: setattr(o.metadata, "name", "a" * 64), "must be a DNS label"),
    ("metadata.namespace", lambda o: setattr(o.metadata, "namespace", "a/b"), "must be a DNS label"),
    ("metadata.labels[a b]", lambda o: o.metadata.labels.update({"a b": "x"}), "must be [<dns subdomain>/]"),
    ("metadata.labels[a/b/c]", lambda o: o.metadata.labels.update({"a/b/c": "x"}), "must be [<dns subdomain>/]"),
    ("metadata.labels[a]", lambda o: o.metadata.labels.update({"a": "x" * 64}), "must be at most 63"),
    (
        "metadata.labels",
        lambda o: o.metadata.labels.update({f"k{i}": "" for i in range(257)}),
        "must not have more than 256",
    ),
    (
        "metadata.annotations",
        lambda o: o.metadata.annotations.update({"a": "x" * MAX_ANNOTATIONS_BYTES}),
        "must not be larger",
    ),
    ("metadata.finalizers[0]", lambda o: o.metadata.finalizers.append("/x"), "must be [<dns subdomain>/]"),
    ("metadata.finalizers[1]", lambda o: o.metadata.finalizers.extend(["a/b", "a/b"]), "appears twice"),
    ("metadata.owner_references[0].uid", lambda o: o.metadata.owner_references.add(name="x"), "is required"),
    (
        "metadata.owner_references[1].uid",
        lambda o: [o.metadata.owner_references.add(api_version="v", kind="K", name="x", uid=UID) for _ in "12"],
        "appears twice",
    ),
    (
        "metadata.owner_references",
        lambda o: [
            o.metadata.owner_references.add(api_version="v", kind="K", name="x", uid=u, controller=True) for u in "12"
        ],
        "must not name more than one controller",
    ),
    ("spec.node_ref", lambda o: o.spec.ClearField("node_ref"), "is required"),
    ("spec.node_ref.name", lambda o: setattr(o.spec.node_ref, "name", "N"), "must be a DNS subdomain"),
    ("spec.ips", lambda o: o.spec.ips.extend(["10.0.0.2", "10.0.0.3"]), "must not have more than 2 entries"),
    ("spec.ips[1]", lambda o: o.spec.ips.append("10.0.0.256"), "must be an IPv4 or IPv6 address"),
    ("spec.ips[1]", lambda o: o.spec.ips.append("fe80::1%eth0"), "must be an address without zone"),
    ("spec.ips[1]", lambda o: o.spec.ips.append("10.0.0.1"), "appears twice"),
    ("spec.prefixes[0]", lambda o: o.spec.prefixes.append("10.0.0.0/33"), "has a prefix length beyond 32"),
    ("spec.prefixes[0]", lambda o: o.spec.prefixes.append("10.0.0.0"), "must be <address>/<prefix length>"),
    ("spec.hostname", lambda o: setattr(o.spec, "hostname", "a.b"), "must be a DNS label"),
    ("spec.public_ips[1].name", lambda o: [named(o, "a"), named(o, "a")], "appears twice"),
    ("spec.nat_gateways[0].claim_ref", lambda o: o.spec.nat_gateways.add(ip_family=1), "is required"),
    ("spec.nat_gateways[0].ip_family", lambda o: claim(o, 9), "must be one of IPv4, IPv6"),
]


def named(obj: Any, name: str) -> None:
    obj.spec.public_ips.add(name=name, ip_family=types_pb2.IP_FAMILY_IPV4)


def claim(obj: Any, family: int) -> None:
    obj.spec.nat_gateways.add(ip_family=family, claim_ref={"name": "g", "uid": UID})


@pytest.mark.parametrize(("field", "change", "message"), CASES)
def test_each_rule_is_checked_with_its_path(field: str, change: Callable[[Any], Any], message: str) -> None:
    violations = found(nic(change))
    assert field in violations
    assert violations[field].startswith(message)


def test_a_cluster_scoped_kind_has_no_namespace_and_an_object_has_a_size_limit() -> None:
    from ironcore.apinet.v1 import node_pb2

    node = node_pb2.Node(metadata={"name": "n", "namespace": "default"})
    assert found(node, info=kind_info(node_pb2.Node)) == {"metadata.namespace": "must be empty: Node is not namespaced"}
    big = network_pb2.Network(metadata={"name": "n", "namespace": "d"})
    for number in range(300):
        big.spec.peerings.add(name=f"p{number}", id="1").prefixes.extend(
            network_pb2.PeeringPrefix(name=f"x{i}", prefix="10.0.0.0/8") for i in range(200)
        )
    assert found(big, info=NETWORK)[""].endswith(f"more than {MAX_OBJECT_BYTES}")


def test_exclusive_fields() -> None:
    obj = tenant_nic_pb2.NetworkInterface()
    both, none = obj.spec.ips.add(value="10.0.0.1"), obj.spec.ips.add()
    both.ephemeral.prefix_template.spec.ip_family = types_pb2.IP_FAMILY_IPV4
    messages = {v.field: v.message for v in check_rules(obj)}
    assert messages["spec.ips[0].ephemeral"] == "must not be set with value"
    assert messages["spec.ips[1]"] == "needs one of value, ephemeral"
    assert none.ByteSize() == 0


def test_changes_over_time() -> None:
    assert found(nic(lambda o: setattr(o.spec.node_ref, "name", "other")), nic()) == {"spec.node_ref": "is immutable"}
    assert found(nic(lambda o: o.spec.ips.append("::1")), nic()) == {"spec.ips": "is immutable"}
    prefix = prefix_pb2.Prefix()
    prefix.spec.prefix = "10.0.0.0/8"
    unset, other = prefix_pb2.Prefix(spec={}), prefix_pb2.Prefix(spec={"prefix": "11.0.0.0/8"})
    assert [v.field for v in check_transition(prefix, unset)] == []
    assert [v.message for v in check_transition(other, prefix)] == ["must not change once it is set"]
    assert [v.field for v in check_transition(unset, prefix)] == ["spec.prefix"]


def test_what_the_server_assigned_is_kept_unless_it_is_changed() -> None:
    old = network_pb2.Network(spec={"id": "7"})
    new = network_pb2.Network(spec={})
    carry_over(new, old)
    assert new.spec.id == "7"
    changed = network_pb2.Network(spec={"id": "8"})
    carry_over(changed, old)
    assert [v.field for v in check_transition(changed, old)] == ["spec.id"]


def test_templates_may_change_what_objects_may_not() -> None:
    one, two = ({"spec": {"ip_family": family}} for family in (types_pb2.IP_FAMILY_IPV4, types_pb2.IP_FAMILY_IPV6))
    prefixes = [prefix_pb2.Prefix(**change) for change in (one, two)]
    assert [v.field for v in check_transition(*prefixes)] == ["spec.ip_family"]
    templates = [sources_pb2.EphemeralPrefixSource(prefix_template=change) for change in (one, two)]
    assert not list(check_transition(*templates))


def test_finalizers_cannot_be_added_to_an_object_that_is_being_deleted() -> None:
    old = nic(lambda o: o.metadata.finalizers.append("a/one"))
    old.metadata.deletion_timestamp.seconds = 1
    new = network_interface_pb2.NetworkInterface.FromString(old.SerializeToString())
    assert found(new, old) == {}
    new.metadata.finalizers.append("a/two")
    assert found(new, old) == {"metadata.finalizers[1]": "must not be added while the object is being deleted"}


def test_addresses_are_stored_in_canonical_form() -> None:
    obj = nic(lambda o: o.spec.ips.append("2001:DB8:0:0::1"))
    obj.spec.prefixes.extend(["2001:db8:0::/48", "10.1.2.3/8", "rubbish"])
    normalize(obj)
    assert list(obj.spec.ips) == ["10.0.0.1", "2001:db8::1"]
    assert list(obj.spec.prefixes) == ["2001:db8::/48", "10.1.2.3/8", "rubbish"]


@given(st.ip_addresses())
def test_canonical_addresses_are_fixed_points(address: Any) -> None:
    text = formats.canonical_ip(str(address))
    assert formats.check_ip(text) is None
    assert formats.canonical_ip(text) == text
    assert (formats.check_ipv6(text) is None) == (address.version == 6)
    assert formats.check_cidr(f"{text}/{address.max_prefixlen}") is None
    assert formats.check_network(f"{text}/{address.max_prefixlen}") is None


@given(st.text(max_size=40))
def test_no_text_crashes_a_check(text: str) -> None:
    for check in formats.CHECKS.values():
        assert check(text) is None or isinstance(check(text), str)
    for canonical in formats.CANONICAL.values():
        assert canonical(canonical(text)) == canonical(text)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (options_pb2.FORMAT_DNS_LABEL, "a-1", "-a"),
        (options_pb2.FORMAT_DNS_SUBDOMAIN, "a.b-c.d", "a..b"),
        (options_pb2.FORMAT_DNS_SUBDOMAIN, "a" * 63, "a" * 64),
        (options_pb2.FORMAT_LABEL_KEY, "a.b/C_d.e", "A.b/c"),
        (options_pb2.FORMAT_LABEL_KEY, "x", "x\n"),
        (options_pb2.FORMAT_UUID, UID, UID.replace("-", "")),
        (options_pb2.FORMAT_IPV6, "2001:db8::1", "2001:db8:0::1"),
        (options_pb2.FORMAT_IPV6, "::", "10.0.0.1"),
        (options_pb2.FORMAT_NETWORK, "10.0.0.0/8", "10.0.0.1/8"),
        (options_pb2.FORMAT_CIDR, "10.0.0.1/8", "10.0.0.1/08"),
        (options_pb2.FORMAT_CIDR, "::/0", "::/0/0"),
        (options_pb2.FORMAT_IP, "::ffff:10.0.0.1", "010.0.0.1"),
    ],
)
def test_formats(kind: Any, good: str, bad: str) -> None:
    assert formats.CHECKS[kind](good) is None
    assert formats.CHECKS[kind](bad) is not None


def test_a_request_is_checked_by_the_same_rules() -> None:
    request = meta_pb2.FinalizerRequest(name="x", finalizer="no good")
    assert [v.field for v in check_rules(request)] == ["finalizer"]
    request.finalizer = "ironcore.dev/x"
    assert [v.field for v in check_rules(request)] == []
