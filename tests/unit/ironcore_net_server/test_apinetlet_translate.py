"""What the tenant bridge makes of tenant objects, and what it tells of the fabric's; properties and examples."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_nic
from ironcore.networking.v1 import network_pb2 as tenant_network
from ironcore.networking.v1 import sources_pb2, virtual_ip_pb2

from apimachinery.conditions import FALSE, TRUE
from apimachinery.informer import Key
from ironcore_net_server.apinetlet.provider_id import ProviderId, parse_provider_id
from ironcore_net_server.apinetlet.translate import (
    INTERFACE_ORIGIN,
    NETWORK_ORIGIN,
    VIRTUAL_IP_ORIGIN,
    Peerings,
    apinet_ip_of,
    apinet_network_of,
    attached_verdict,
    binding_verdict,
    detached_verdict,
    interface_status,
    network_provider_id,
    peering_statuses,
    peerings_of,
    prefixes_of,
    public_ips_of,
    same_peerings,
    virtual_ip_name,
)

IPV4, IPV6 = types_pb2.IP_FAMILY_IPV4, types_pb2.IP_FAMILY_IPV6
PENDING, READY = types_pb2.PEERING_STATE_PENDING, types_pb2.PEERING_STATE_READY
ERROR = types_pb2.PEERING_STATE_ERROR
BEFORE, NOW = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
UID = "11111111-0000-4000-8000-000000000001"
# Which peers the fabric knows, and whether the ranges that the peering needs exist: any mixture of good and bad ones.
PEERS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.tuples(st.booleans(), st.sampled_from(["all", "literal", "allocated", "unallocated", "both"])),
    max_size=6,
)


def nothing(_: str) -> str | None:
    return None


def peered(peers: dict[str, tuple[bool, str]]) -> tuple[tenant_network.Network, dict[str, str]]:
    """A network that peers with all of these, both sides willing, and the ids that the fabric has given."""
    network = tenant_network.Network(metadata=meta_pb2.ObjectMeta(name="own", namespace="team-a", uid=UID))
    ids = {}
    for number, (name, (known, ranges)) in enumerate(peers.items()):
        peering = network.spec.peerings.add(name=f"to-{name}")
        peering.network_ref.name = name
        if ranges in ("literal", "both"):
            peering.prefixes.add(name=f"l-{name}", prefix="10.0.0.0/24")
        if ranges in ("allocated", "unallocated", "both"):
            reference = peering.prefixes.add(name=f"r-{name}")
            reference.prefix_ref.name = "known" if ranges == "allocated" else "unknown"
        network.spec.incoming_peerings.add(name=name, uid=f"uid-{name}")
        if known:
            ids[f"uid-{name}"] = str(number + 1)
    return network, ids


def known_prefix(name: str) -> str | None:
    return "10.1.0.0/24" if name == "known" else None


@given(PEERS)
def test_every_peering_that_can_be_realized_is_whatever_the_others_are(peers: dict[str, tuple[bool, str]]) -> None:
    network, ids = peered(peers)
    peerings = peerings_of(network, ids, known_prefix)
    possible = {f"to-{name}" for name, (known, ranges) in peers.items() if known and ranges != "unallocated"}
    assert {entry.name for entry in peerings.entries} == possible == set(peerings.by_id.values())
    assert set(peerings.waiting) == {f"to-{name}" for name in peers} - possible
    for entry in peerings.entries:
        # No ranges means everything, so it must have been meant.
        assert bool(entry.prefixes) == (peers[entry.name.removeprefix("to-")][1] != "all")
        assert all(prefix.prefix for prefix in entry.prefixes)


@given(PEERS, st.randoms(use_true_random=False))
def test_the_order_of_peerings_and_ranges_causes_no_write(
    peers: dict[str, tuple[bool, str]], rng: random.Random
) -> None:
    network, ids = peered(peers)
    wanted = apinet_network_of(network, peerings_of(network, ids, known_prefix), "fabric")
    current = apinet_network.Network()
    current.CopyFrom(wanted)
    entries = list(current.spec.peerings)
    rng.shuffle(entries)
    for entry in entries:
        ranges = list(entry.prefixes)
        rng.shuffle(ranges)
        del entry.prefixes[:]
        entry.prefixes.extend(ranges)
    del current.spec.peerings[:]
    current.spec.peerings.extend(entries)
    assert same_peerings(current, wanted)
    if entries:
        current.spec.peerings[0].id = "4711"
        assert not same_peerings(current, wanted)


def test_a_claim_of_a_network_that_is_not_wanted_any_more_is_no_peering() -> None:
    network, ids = peered({"a": (True, "all"), "b": (True, "all")})
    del network.spec.peerings[0]
    peerings = peerings_of(network, ids, nothing)
    assert ([entry.name for entry in peerings.entries], peerings.waiting) == (["to-b"], [])


def test_a_peering_means_the_namespace_that_it_says() -> None:
    network, ids = peered({"a": (True, "all")})
    network.spec.peerings[0].network_ref.namespace = "team-b"
    assert not peerings_of(network, ids, nothing).entries
    network.spec.incoming_peerings[0].namespace = "team-b"
    assert [entry.id for entry in peerings_of(network, ids, nothing).entries] == ["1"]


@given(st.dictionaries(st.text("pq", min_size=1, max_size=3), st.sampled_from([PENDING, READY, ERROR]), max_size=4))
def test_a_peering_has_one_state_and_it_is_the_worst(told: dict[str, types_pb2.PeeringState.ValueType]) -> None:
    network = apinet_network.Network()
    for partition, state in told.items():
        network.status.peerings[partition].items.add(id=7, state=state)
        network.status.peerings[partition].items.add(id=8, state=ERROR)  # of a peering that is no more
    entry = apinet_network.NetworkPeering(name="a", id="7")
    entry.prefixes.add(name="web", prefix="10.0.0.0/24")
    statuses = peering_statuses(network, Peerings([entry], {"7": "a"}, ["b"]))
    assert [status.name for status in statuses] == ["a", "b"]
    expected = ERROR if ERROR in told.values() else READY if set(told.values()) == {READY} else PENDING
    assert [status.state for status in statuses] == [expected, PENDING]
    assert [prefix.prefix for prefix in statuses[0].prefixes] == (["10.0.0.0/24"] if expected == READY else [])


def test_what_is_made_names_its_origin_and_leaves_the_choice_to_the_fabric() -> None:
    source = tenant_network.Network(metadata=meta_pb2.ObjectMeta(name="n" * 253, namespace="team-a", uid=UID))
    network = apinet_network_of(source, Peerings(), "fabric")
    assert (network.metadata.namespace, network.metadata.name, network.spec.id) == ("fabric", UID, "")
    assert list(NETWORK_ORIGIN.keys(network)) == [Key("team-a", "n" * 253)]
    assert all(len(value) <= 63 for value in network.metadata.labels.values())

    vip = virtual_ip_pb2.VirtualIP(metadata=meta_pb2.ObjectMeta(name="front", namespace="team-a", uid=UID))
    vip.spec.type, vip.spec.ip_family = types_pb2.IP_TYPE_PUBLIC, IPV6
    ip = apinet_ip_of(vip, "fabric")
    assert (ip.metadata.name, ip.spec.type, ip.spec.ip_family, ip.spec.ip) == (
        UID,
        types_pb2.IP_TYPE_PUBLIC,
        IPV6,
        "",
    )
    assert list(VIRTUAL_IP_ORIGIN.keys(ip)) == [Key("team-a", "front")]


@pytest.mark.parametrize("missing", ["uid", "namespace", "name"])
def test_a_partial_origin_is_none(missing: str) -> None:
    nic = apinet_nic.NetworkInterface()
    INTERFACE_ORIGIN.mark(nic.metadata, meta_pb2.ObjectMeta(name="vm1", namespace="team-a", uid=UID))
    assert INTERFACE_ORIGIN.find(nic) is not None
    marks = nic.metadata.annotations if missing == "name" else nic.metadata.labels
    del marks[f"apinetlet.ironcore.dev/networkinterface-{missing}"]
    assert INTERFACE_ORIGIN.find(nic) is None


def test_a_network_has_a_provider_id_once_it_has_an_id() -> None:
    network = apinet_network.Network(metadata=meta_pb2.ObjectMeta(name="n", namespace="fabric", uid=UID))
    assert network_provider_id(network) == ""
    network.spec.id = "301"
    assert network_provider_id(network) == f"ironcore-net://fabric/n/301/{UID}"
    assert parse_provider_id(network_provider_id(network)) == ProviderId("fabric", "n", "301", UID)


def interface(name: str = "vm1", **spec: object) -> tenant_nic.NetworkInterface:
    return tenant_nic.NetworkInterface(
        metadata=meta_pb2.ObjectMeta(name=name, namespace="team-a", uid=UID),
        spec=tenant_nic.NetworkInterfaceSpec(**spec),  # type: ignore[arg-type]
    )


def virtual_ip(name: str, family: types_pb2.IPFamily.ValueType = IPV4, ip: str = "") -> virtual_ip_pb2.VirtualIP:
    vip = virtual_ip_pb2.VirtualIP(metadata=meta_pb2.ObjectMeta(name=name, namespace="team-a"))
    vip.spec.ip_family, vip.status.ip = family, ip
    return vip


def test_ranges_are_literals_and_allocated_ones_once_each() -> None:
    ephemeral = sources_pb2.EphemeralPrefixSource()
    nic = interface(
        prefixes=[
            sources_pb2.PrefixSource(value="10.9.0.0/24"),
            sources_pb2.PrefixSource(ephemeral=ephemeral),
            sources_pb2.PrefixSource(ephemeral=ephemeral),
            sources_pb2.PrefixSource(value="10.9.0.0/24"),
        ]
    )
    assert prefixes_of(nic, {"vm1-pf-1": "10.8.0.0/28"}.get) == ["10.9.0.0/24", "10.8.0.0/28"]
    assert prefixes_of(nic, nothing) == ["10.9.0.0/24"]


def test_the_virtual_ip_of_an_interface_is_named_or_has_its_name() -> None:
    assert virtual_ip_name(interface()) == ""
    reference = sources_pb2.VirtualIPSource(virtual_ip_ref=meta_pb2.LocalObjectReference(name="front"))
    assert virtual_ip_name(interface(virtual_ip=reference)) == "front"
    ephemeral = sources_pb2.VirtualIPSource(ephemeral=sources_pb2.EphemeralVirtualIPSource())
    assert virtual_ip_name(interface(virtual_ip=ephemeral)) == "vm1"


VIRTUAL_IPS = st.lists(
    st.builds(
        virtual_ip,
        st.text("abc", min_size=1, max_size=3),
        st.sampled_from([IPV4, IPV6]),
        st.sampled_from(["", "192.0.2.1", "192.0.2.2"]),
    ),
    max_size=5,
    unique_by=lambda vip: vip.metadata.name,
)


@given(VIRTUAL_IPS)
def test_public_addresses_are_one_per_family_in_any_order(vips: list[virtual_ip_pb2.VirtualIP]) -> None:
    entries = public_ips_of(vips)
    assert [entry.ip_family for entry in entries] == sorted({vip.spec.ip_family for vip in vips if vip.status.ip})
    assert all(entry.name == entry.ip != "" for entry in entries)
    assert all(public_ips_of(order) == entries for order in itertools.islice(itertools.permutations(vips), 24))


def test_a_virtual_ip_is_bound_if_it_is_free_or_was_an_earlier_incarnations() -> None:
    reference = sources_pb2.VirtualIPSource(virtual_ip_ref=meta_pb2.LocalObjectReference(name="front"))
    nic, front = interface(virtual_ip=reference), virtual_ip("front")
    assert binding_verdict(nic, front).holds
    front.spec.target_ref.name, front.spec.target_ref.uid = "vm1", "of an earlier one"
    assert binding_verdict(nic, front).holds
    front.spec.target_ref.name = "vm2"
    assert binding_verdict(nic, front).reason == "VirtualIPInUse"
    assert '"vm2"' in binding_verdict(nic, front).message
    assert binding_verdict(nic, None).reason == "VirtualIPNotFound"
    front.spec.ClearField("target_ref")
    front.metadata.deletion_timestamp.FromDatetime(NOW)
    assert binding_verdict(nic, front).reason == "VirtualIPDeleted"


def realized(state: types_pb2.RealizationState.ValueType, *public_ips: str) -> apinet_nic.NetworkInterface:
    nic = apinet_nic.NetworkInterface()
    nic.spec.ips.append("10.0.0.1")
    nic.spec.prefixes.append("10.9.0.0/24")
    nic.status.state = state
    nic.status.public_ips.extend(public_ips)
    return nic


@pytest.mark.parametrize(
    ("fabric", "tenant"),
    [
        (types_pb2.REALIZATION_STATE_READY, tenant_nic.NETWORK_INTERFACE_STATE_AVAILABLE),
        (types_pb2.REALIZATION_STATE_ERROR, tenant_nic.NETWORK_INTERFACE_STATE_ERROR),
        (types_pb2.REALIZATION_STATE_PENDING, tenant_nic.NETWORK_INTERFACE_STATE_PENDING),
        (types_pb2.REALIZATION_STATE_UNSPECIFIED, tenant_nic.NETWORK_INTERFACE_STATE_PENDING),
    ],
)
def test_states_of_an_interface(
    fabric: types_pb2.RealizationState.ValueType, tenant: tenant_nic.NetworkInterfaceState.ValueType
) -> None:
    status = interface_status(interface(), realized(fabric, "2001:db8::1", "192.0.2.1"), NOW)
    assert (status.state, list(status.ips), list(status.prefixes)) == (tenant, ["10.0.0.1"], ["10.9.0.0/24"])
    assert status.virtual_ip == "192.0.2.1"
    assert attached_verdict(realized(fabric)).holds == (fabric == types_pb2.REALIZATION_STATE_READY)


def test_the_transition_time_is_that_of_the_last_change() -> None:
    nic = interface()
    nic.status.CopyFrom(interface_status(nic, None, BEFORE))
    assert nic.status.last_state_transition_time.ToDatetime(UTC) == BEFORE
    assert interface_status(nic, None, NOW) == nic.status
    ready = interface_status(nic, realized(types_pb2.REALIZATION_STATE_READY), NOW)
    assert ready.last_state_transition_time.ToDatetime(UTC) == NOW


def test_a_lost_interface_shows_nothing_of_before() -> None:
    nic = interface()
    nic.status.CopyFrom(interface_status(nic, realized(types_pb2.REALIZATION_STATE_READY, "192.0.2.1"), BEFORE))
    status = interface_status(nic, None, NOW)
    assert status.state == tenant_nic.NETWORK_INTERFACE_STATE_PENDING
    assert not status.ips and not status.prefixes and not status.virtual_ip


@pytest.mark.parametrize(
    ("provider_id", "reason"),
    [
        ("", "NotAttached"),
        ("libvirt://something", "InvalidProviderID"),
        (f"ironcore-net://elsewhere/nic/p1.h1/{UID}", "InvalidProviderID"),
        (f"ironcore-net://fabric/nic/p1.h1/{UID}", "InterfaceNotFound"),
        (f"fabric/nic/p1.h1/{UID}", "InterfaceNotFound"),
    ],
)
def test_why_an_interface_has_no_counterpart(provider_id: str, reason: str) -> None:
    verdict = detached_verdict(interface(provider_id=provider_id), "fabric")
    assert (verdict.holds, verdict.reason) == (False, reason)
    assert verdict.message


def test_what_the_fabric_says_about_an_interface_is_passed_on() -> None:
    nic = realized(types_pb2.REALIZATION_STATE_PENDING)
    assert attached_verdict(nic).reason == "Waiting"
    nic.status.conditions.add(type="Ready", status=FALSE, reason="NodeNotFound", message='node "p1.h1" does not exist')
    verdict = attached_verdict(nic)
    assert (verdict.holds, verdict.reason, verdict.message) == (False, "NodeNotFound", 'node "p1.h1" does not exist')
    nic = realized(types_pb2.REALIZATION_STATE_READY)
    nic.status.conditions.add(type="Ready", status=TRUE)
    assert (attached_verdict(nic).holds, attached_verdict(nic).reason) == (True, "InterfaceReady")
