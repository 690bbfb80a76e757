"""From API objects to the desired state, and from what was found to status."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address

import pytest
from google.protobuf.text_format import Parse
from google.protobuf.timestamp_pb2 import Timestamp
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.metalnet.v1 import network_interface_pb2, network_pb2

from metalnet_daemon.device.types import Device, PciAddress
from metalnet_daemon.plan.objects import INTERFACE_FINALIZER, HostObjects, HostSpec, Problem, exposures, host_spec
from metalnet_daemon.plan.status import HostReport, interface_status
from metalnet_daemon.plan.types import Actual, ActualInterface, Interface, Prefix, PrefixKey, PrefixKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PUBLIC = 99
UNDERLAY = IPv6Address("fc00:1::1")


def nic(spec: str = 'ips: "10.0.0.1" ips: "fd00::1"', **meta: object) -> network_interface_pb2.NetworkInterface:
    metadata = meta_pb2.ObjectMeta(
        name="web", namespace="ns", uid="uid", generation=4, finalizers=[INTERFACE_FINALIZER]
    )
    result = network_interface_pb2.NetworkInterface(
        metadata=metadata, spec=Parse(spec, network_interface_pb2.NetworkInterfaceSpec())
    )
    result.spec.network_ref.name = "blue"
    result.metadata.MergeFrom(meta_pb2.ObjectMeta(**meta))  # type: ignore[arg-type] # keyword by keyword
    return result


def network(vni: int = 100, extra: str = "") -> network_pb2.Network:
    spec = Parse(f"id: {vni} {extra}", network_pb2.NetworkSpec())
    return network_pb2.Network(metadata=meta_pb2.ObjectMeta(name="blue", namespace="ns"), spec=spec)


def read(*nics: network_interface_pb2.NetworkInterface, vni: int = 100) -> HostSpec:
    return host_spec(HostObjects({("ns", "blue"): network(vni)}, nics, True), PUBLIC)


def test_an_interface_is_read_whole() -> None:
    spec = read(
        nic(
            'ips: "10.0.0.1" ips: "fd00::1" hostname: "web" prefixes: "10.1.2.3/16" prefixes: "10.0.0.1/32" '
            'load_balancer_targets: "192.0.2.1/32" metering_rate { total_rate: 10 public_rate: 5 }'
        )
    )
    assert spec.interfaces == {
        "uid": Interface("uid", 100, "", IPv4Address("10.0.0.1"), IPv6Address("fd00::1"), "web", 10, 5)
    }
    # Host bits are dropped, and the interface's own address is no prefix of it.
    assert spec.prefixes == {
        PrefixKey(PrefixKind.ALIAS, "uid", Prefix.parse("10.1.0.0/16")),
        PrefixKey(PrefixKind.LOAD_BALANCER, "uid", Prefix.parse("192.0.2.1/32")),
    }
    placed = spec.with_devices({"uid": "net_tap2"}, {})
    assert placed.interfaces["uid"].device == "net_tap2"
    assert placed.desired().prefixes.keys() == spec.prefixes


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('ips: "10.0.0.1" ips: "10.0.0.2"', "spec.ips[1]: a second IPv4 address"),
        ('ips: "fd00::1" ips: "fd00::2"', "spec.ips[1]: a second IPv6 address"),
        ('ips: "x"', "spec.ips[0]: 'x' is not an IP address"),
        ('ips: "0.0.0.0"', "spec.ips: no address"),
        ("", "spec.ips: no address"),
        ('ips: "10.0.0.1" prefixes: "x"', "spec.prefixes[0]: 'x' is not a prefix"),
        ('ips: "10.0.0.1" prefixes: "0.0.0.0/0"', "spec.prefixes[0]: 0.0.0.0/0 is the default route"),
        (
            'ips: "10.0.0.1" metering_rate { total_rate: 1 public_rate: 2 }',
            "spec.metering_rate.public_rate: 2 is above total_rate 1",
        ),
    ],
)
def test_what_cannot_be_read_is_held_with_a_reason(text: str, complaint: str) -> None:
    spec = read(nic(text))
    assert spec.problems == {"uid": Problem(False, "InvalidSpec", complaint)}
    assert (spec.interfaces, spec.prefixes, spec.hold) == ({}, frozenset(), {"uid"})


def test_a_missing_network_is_pending_and_the_public_one_is_refused() -> None:
    lost = host_spec(HostObjects({}, (nic(),), True), PUBLIC)
    assert lost.problems["uid"].pending
    assert lost.hold == {"uid"}
    assert read(nic(), vni=PUBLIC).problems["uid"].reason == "InvalidSpec"


def test_an_interface_without_our_finalizer_is_not_programmed_yet() -> None:
    bare = nic()
    del bare.metadata.finalizers[:]
    spec = read(bare)
    assert (spec.interfaces, spec.hold, spec.problems) == ({}, {"uid"}, {})


def test_a_deleted_interface_is_to_be_removed() -> None:
    spec = read(nic(deletion_timestamp=Timestamp(seconds=1)))
    assert (spec.removed, spec.hold, spec.interfaces) == ({"uid"}, frozenset(), {})


def test_an_interface_without_device_is_held() -> None:
    spec = read(nic()).with_devices({}, {"uid": "no device is free"})
    assert spec.problems == {"uid": Problem(False, "NoDevice", "no device is free")}
    assert (spec.interfaces, spec.prefixes, spec.hold) == ({}, frozenset(), {"uid"})


def test_exposures() -> None:
    text = 'peered_ids: 200 peered_ids: 300 peered_prefixes { id: 200 prefixes: "10.0.0.0/8" prefixes: "x" }'
    (exposure,) = exposures([network(100, text), network(400)]).values()
    assert exposure.peers == {200, 300}
    assert exposure.filters == {200: (Prefix.parse("10.0.0.0/8"),)}


FOUND = ActualInterface(Interface("uid", 100, "net_tap2", IPv4Address("10.0.0.1"), None), UNDERLAY)
PREFIX = PrefixKey(PrefixKind.ALIAS, "uid", Prefix.parse("10.1.0.0/16"))


def report(**fields: object) -> HostReport:
    known = {"actual": Actual({"uid": FOUND}, {PREFIX: UNDERLAY}), "generations": {"uid": 4}, "reachable": True}
    return HostReport(**{**known, **fields})  # type: ignore[arg-type] # keyword by keyword


def reasons(status: network_interface_pb2.NetworkInterfaceStatus) -> dict[str, str]:
    return {condition.type: condition.reason for condition in status.conditions}


def test_a_programmed_interface_is_ready_and_stays_equal() -> None:
    source = nic()
    status = interface_status(source, report(devices={"uid": Device("dtapvf_0", "net_tap2")}), NOW)
    assert status.state == types_pb2.REALIZATION_STATE_READY
    assert (status.tap_device.name, status.underlay_ip, list(status.prefixes)) == (
        "dtapvf_0",
        str(UNDERLAY),
        ["10.1.0.0/16"],
    )
    assert status.observed_generation == 4
    assert reasons(status) == {"Ready": "Programmed", "Complete": "Programmed"}
    source.status.CopyFrom(status)
    later = datetime(2027, 1, 1, tzinfo=UTC)
    assert interface_status(source, report(devices={"uid": Device("dtapvf_0", "net_tap2")}), later) == status


def test_a_virtual_function_is_shown_by_its_address() -> None:
    device = Device("0000:3b:02.1", "x", PciAddress(0, 0x3B, 2, 1))
    address = interface_status(nic(), report(devices={"uid": device}), NOW).pci_address
    assert (address.domain, address.bus, address.slot, address.function) == ("0000", "3b", "02", "1")


def test_states_of_what_is_not_ready() -> None:
    pending = report(problems={"uid": Problem(True, "NetworkNotFound", "no network")})
    wrong = report(problems={"uid": Problem(False, "InvalidSpec", "bad")})
    refused = report(failures={"uid": "ALREADY_EXISTS (202)"})
    waiting = report(actual=Actual())
    states = [
        (interface_status(nic(), one, NOW).state, reasons(interface_status(nic(), one, NOW))["Ready"])
        for one in (pending, wrong, refused, waiting)
    ]
    assert states == [
        (types_pb2.REALIZATION_STATE_PENDING, "NetworkNotFound"),
        (types_pb2.REALIZATION_STATE_ERROR, "InvalidSpec"),
        (types_pb2.REALIZATION_STATE_ERROR, "EngineRefused"),
        (types_pb2.REALIZATION_STATE_PENDING, "NotProgrammed"),
    ]


def test_parts_that_are_not_in_effect_are_named() -> None:
    failed = report(failures={PREFIX: "ROUTE_EXISTS (301)"})
    assert reasons(interface_status(nic(), failed, NOW))["Complete"] == "PrefixRefused"
    more = nic('ips: "10.0.0.1" virtual_ip: "192.0.2.1" nat { ip: "192.0.2.2" end_port: 1 } firewall_rules {}')
    status = interface_status(more, report(), NOW)
    assert status.state == types_pb2.REALIZATION_STATE_READY
    assert status.conditions[1].message == "this host does not program virtualIP, nat, firewallRules"


def test_a_generation_that_was_not_looked_at_is_not_covered() -> None:
    newer = nic(generation=5)
    assert not report().covers(newer)
    assert report().covers(nic())
    assert report(reachable=False).covers(newer)
    assert interface_status(newer, report(reachable=False), NOW).observed_generation == 4


def test_gone_means_nothing_is_left_anywhere() -> None:
    assert report(actual=Actual()).is_gone("uid")
    assert not report().is_gone("uid")
    assert not report(actual=Actual({}, {PREFIX: UNDERLAY})).is_gone("uid")
    assert not report(actual=Actual(), claimed=frozenset({"uid"})).is_gone("uid")
    assert not report(actual=Actual(), reachable=False).is_gone("uid")
