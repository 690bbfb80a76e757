"""Two processes with one lock file: one active, the other as configurable, and the way from one to the other."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from tests.lab.region import wait_until
from tests.support.dpservice import Caller, Dpservice, ip, prefix, route

UNDERLAY = b"fc00:1::8000:0:1"


def configure(service: Dpservice) -> None:
    api = Caller(service.channel())
    interface: dict[str, Any] = {
        "interface_id": b"vm",
        "vni": 100,
        "ipv4_config": pb.IpConfig(primary_address=b"10.0.0.1"),
        "ipv6_config": pb.IpConfig(primary_address=b"::"),
        "device_name": "net_null2",
        "preferred_underlay_route": UNDERLAY,
    }
    assert api.code("Initialize") == 0
    assert api.code("CreateInterface", **interface) == 0
    assert api.code("CreateRoute", vni=100, route=route("1.2.3.0/24")) == 0
    assert api.code("CreatePrefix", interface_id=b"vm", prefix=prefix("10.1.0.0/24")) == 0
    assert api.code("CreateVip", interface_id=b"vm", vip_ip=ip("172.20.0.1")) == 0
    assert api.call("GetInterface", interface_id=b"vm").interface.underlay_route == UNDERLAY


def role(service: Dpservice) -> str:
    """The last one that the log tells."""
    lines = [line for line in service.process.log_since().splitlines() if "role in the pair" in line]
    return lines[-1].rpartition("role=")[2].split()[0] if lines else ""


def has_role(service: Dpservice, wanted: str) -> None:
    wait_until(lambda: role(service) == wanted, f"role {wanted}")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_the_standby_is_configurable_and_takes_over(tmp_path: Path, ending: signal.Signals) -> None:
    option = f"--active-lockfile={tmp_path}/lock"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with Dpservice(tmp_path / "one", option) as one:
        has_role(one, "active")
        with Dpservice(tmp_path / "two", option) as two:
            has_role(two, "standby")
            configure(one)
            configure(two)
            assert role(two) == "standby"
            os.kill(one.process.pid, ending)
            has_role(two, "active")
            assert Caller(two.channel()).code("GetVip", interface_id=b"vm") == 0


def test_a_standby_ends_in_order(tmp_path: Path) -> None:
    option = f"--active-lockfile={tmp_path}/lock"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with Dpservice(tmp_path / "one", option) as one, Dpservice(tmp_path / "two", option) as two:
        has_role(two, "standby")
        assert two.process.stop() == 0
        assert role(one) == "active"
