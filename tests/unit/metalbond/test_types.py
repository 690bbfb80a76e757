import ipaddress

import pytest

from metalbond.types import Destination, HopType, NextHop, Route


def test_destinations_keep_their_host_bits() -> None:
    assert Destination.parse("10.2.0.5/24") == Destination(bytes([10, 2, 0, 5]), 24)
    assert Destination.parse("10.2.0.5/24") != Destination.parse("10.2.0.0/24")
    assert Destination.parse("fd00::1").length == 128
    assert Destination.of(ipaddress.ip_network("10.2.0.0/24")) == Destination.parse("10.2.0.0/24")
    assert Destination.of(ipaddress.ip_interface("10.2.0.5/24")) == Destination.parse("10.2.0.5/24")
    assert Destination.of(ipaddress.ip_address("10.2.0.5")).length == 32
    assert [Destination.parse(text).version for text in ("10.0.0.0/8", "::/0")] == [4, 6]


def test_mapped_addresses_stay_ipv6() -> None:
    assert str(Destination.parse("::ffff:10.0.0.1/128").address) in ("::ffff:a00:1", "::ffff:10.0.0.1")
    assert Destination.parse("::ffff:10.0.0.1/128").version == 6


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "fd00::/129", "10.0.0/24", "x/8", "10.0.0.0/-1"])
def test_bad_destinations(text: str) -> None:
    with pytest.raises(ValueError):
        Destination.parse(text)


@pytest.mark.parametrize(
    ("route", "field"),
    [
        (Route(-1, Destination.parse("::/0"), NextHop.to("::1")), "vni"),
        (Route(2**32, Destination.parse("::/0"), NextHop.to("::1")), "vni"),
        (Route(1, Destination(bytes(5), 0), NextHop.to("::1")), "destination.prefix"),
        (Route(1, Destination(bytes(4), 33), NextHop.to("::1")), "destination.prefix_length"),
        (Route(1, Destination(bytes(4), 32), NextHop(b"")), "next_hop.target_address"),
        (Route(1, Destination(bytes(4), 32), NextHop(bytes(16), 2**32)), "next_hop.target_vni"),
        (Route(1, Destination(bytes(4), 32), NextHop(bytes(16), 0, 1, 0, 65536)), "next_hop.nat_port_range"),
        (Route(1, Destination(bytes(4), 32), NextHop(bytes(16), 0, 0, 1, 2)), "next_hop.nat_port_range"),
    ],
)
def test_faults_name_the_field(route: Route, field: str) -> None:
    assert route.fault().startswith(field + ":")


def test_hops_check_what_they_are_made_of() -> None:
    assert not NextHop.to("fc00::7", HopType.NAT, nat_from=1000, nat_to=65535).fault()
    with pytest.raises(ValueError, match="nat_port_range"):
        NextHop.to("fc00::7", HopType.NAT, nat_from=1, nat_to=70000)
    with pytest.raises(ValueError):
        NextHop.to("nowhere")


def test_texts() -> None:
    hop = NextHop.to("fc00::7", HopType.NAT, nat_from=1000, nat_to=2000)
    assert str(Route(7, Destination.parse("20.0.0.1"), hop)) == "7 20.0.0.1/32 via fc00::7 nat 1000-2000"
    assert str(NextHop(NextHop.to("fc00::7").target, 5, 77)) == "fc00::7 vni 5 77"
