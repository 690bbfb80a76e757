"""Tables at their limits, as clients see it: the status that they know, and the name of what is full."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb
from ironcore.dpservice.v1 import dpservice_pb2, dpservice_pb2_grpc

from dpservice.calls import SERVICE
from dpservice.server import FULL_TABLE
from tests.support.dpservice import Dpservice, ip, prefix, route

VM, OTHER = b"vm", b"other"


class Site:
    """An initialized engine; calls tell what is full."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.service = Dpservice(directory, *options)

    def __enter__(self) -> Site:
        self.service.__enter__()
        self.call("Initialize")
        return self

    def __exit__(self, *_: object) -> None:
        self.service.__exit__()

    def call(self, method: str, **fields: Any) -> tuple[int, str]:
        """Status code, and the table that is said to be full."""
        request = getattr(pb, SERVICE.methods_by_name[method].input_type.name)(**fields)
        response, call = getattr(self.service.stub(), method).with_call(request, timeout=30)
        return response.status.code, dict(call.trailing_metadata()).get(FULL_TABLE, "")

    def tables(self) -> dict[str, int]:
        """Entries by table."""
        stub = dpservice_pb2_grpc.InspectionServiceStub(self.service.channel())
        found = stub.ListTables(dpservice_pb2.ListTablesRequest(), timeout=30).tables
        return {one.name: one.used for one in found if one.name != "packet_buffers"}

    def refused(self, method: str, **fields: Any) -> tuple[int, str]:
        """As `call`, of a request that must change nothing."""
        before = self.tables()
        answer = self.call(method, **fields)
        assert answer[0] != 0
        assert self.tables() == before
        return answer


def interface(name: bytes = VM, number: int = 2, vni: int = 100) -> dict[str, Any]:
    return {
        "interface_id": name,
        "vni": vni,
        "ipv4_config": pb.IpConfig(primary_address=f"10.0.0.{number}".encode()),
        "ipv6_config": pb.IpConfig(primary_address=b"::"),
        "device_name": f"net_null{number}",
    }


def balancer(name: bytes = b"lb", vni: int = 100, address: str = "10.0.0.100") -> dict[str, Any]:
    return {"loadbalancer_id": name, "vni": vni, "loadbalanced_ip": ip(address)}


def neighbor(first: int, address: str = "192.0.2.1") -> dict[str, Any]:
    return {"nat_ip": ip(address), "vni": 100, "min_port": first, "max_port": first + 1, "underlay_route": b"fc00:2::1"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One network with an interface, a load balancer with a target, a route and a neighbour's NAT; no more fits in."""
    options = (
        "--max-vnis=1", "--max-routes=2", "--max-public-addresses=1", "--max-neighbor-nats=1", "--max-load-balancers=1",
        "--max-load-balancer-targets=1",
    )  # fmt: skip
    with Site(tmp_path_factory.mktemp("dpservice"), *options) as site:
        assert site.call("CreateInterface", **interface()) == (0, "")
        assert site.call("CreateRoute", vni=100, route=route("10.1.0.0/16")) == (0, "")
        assert site.call("CreateNeighborNat", **neighbor(1)) == (0, "")
        assert site.call("CreateLoadBalancer", **balancer()) == (0, "")
        target = {"loadbalancer_id": b"lb", "target_ip": ip("fc00:2::1")}
        assert site.call("CreateLoadBalancerTarget", **target) == (0, "")
        yield site


def test_networks(site: Site) -> None:
    assert site.refused("CreateInterface", **interface(OTHER, 3, 200)) == (361, "vnis")


def test_routes(site: Site) -> None:
    assert site.refused("CreateRoute", vni=100, route=route("10.2.0.0/16")) == (303, "routes")
    assert site.refused("CreatePrefix", interface_id=VM, prefix=prefix("10.2.0.0/16")) == (303, "routes")
    assert site.refused("CreateInterface", **interface(OTHER, 3)) == (303, "routes")
    # The same status for another reason.
    assert site.refused("CreateRoute", vni=100, route=route("10.2.0.0/33")) == (303, "")
    assert site.refused("CreatePrefix", interface_id=VM, prefix=prefix("2001:db8::/129")) == (303, "")


def test_public_addresses(site: Site) -> None:
    assert site.refused("CreateVip", interface_id=VM, vip_ip=ip("192.0.2.2")) == (322, "public_addresses")
    wanted = {"nat_ip": ip("192.0.2.2"), "min_port": 1, "max_port": 2}
    assert site.refused("CreateNat", interface_id=VM, **wanted) == (322, "public_addresses")


def test_nat_ranges_of_other_hosts(site: Site) -> None:
    assert site.refused("CreateNeighborNat", **neighbor(2)) == (208, "neighbor_nats")
    assert site.refused("CreateNeighborNat", **neighbor(1)) == (202, "")


def test_load_balancers(site: Site) -> None:
    assert site.refused("CreateLoadBalancer", **balancer(b"two", address="10.0.0.101")) == (208, "load_balancers")
    target = {"loadbalancer_id": b"lb", "target_ip": ip("fc00:2::2")}
    assert site.refused("CreateLoadBalancerTarget", **target) == (423, "load_balancer_targets")


def test_next_hops(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        site.call("CreateInterface", **interface())
        for number in range(1, 65):
            assert site.call("CreateRoute", vni=100, route=route("0.0.0.0/0", f"fc00:2::{number}")) == (0, "")
        answer = site.refused("CreateRoute", vni=100, route=route("0.0.0.0/0", "fc00:2::65"))
        assert answer == (209, "next_hops")


def test_underlay_addresses(tmp_path: Path) -> None:
    taken = {"preferred_underlay_route": b"fc00:1::8000:0:1"}
    with Site(tmp_path, "--max-underlay-addresses=2") as site:
        assert site.call("CreateInterface", **interface(), **taken) == (0, "")
        wanted = {"interface_id": VM, "prefix": prefix("10.1.0.0/16")}
        # The same status for another reason.
        assert site.refused("CreatePrefix", **wanted, **taken) == (401, "")
        assert site.call("CreatePrefix", **wanted) == (0, "")
        full = (401, "underlay_addresses")
        assert site.refused("CreateInterface", **interface(OTHER, 3, 200)) == full
        assert site.refused("CreatePrefix", interface_id=VM, prefix=prefix("10.2.0.0/16")) == full
        assert site.refused("CreateLoadBalancerPrefix", **wanted) == full
        assert site.refused("CreateVip", interface_id=VM, vip_ip=ip("192.0.2.1")) == full
        wanted_nat = {"nat_ip": ip("192.0.2.2"), "min_port": 1, "max_port": 2}
        assert site.refused("CreateNat", interface_id=VM, **wanted_nat) == full
        assert site.refused("CreateLoadBalancer", **balancer(vni=200)) == full
