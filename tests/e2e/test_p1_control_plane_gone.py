"""With every control process stopped, established and new flows inside the known state keep working."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.lab.region import FAMILIES, Region, wait_until
from tests.lab.stream import stream

pytestmark = pytest.mark.timeout(120, func_only=True)

RATE = 100


@contextlib.contextmanager
def without_control_plane(region: Region) -> Iterator[None]:
    """Server with its etcd, route server and node daemons are stopped inside the block, and back after it."""
    assert region.stack.etcd_pids()
    for process in region.stack.control_processes():
        process.stop()
    wait_until(lambda: not region.stack.etcd_pids(), "etcd has ended with its server", 10)
    try:
        yield
        assert not any(process.running for process in region.stack.control_processes())
    finally:
        region.repair()


def test_established_and_new_flows_work_without_any_control_process(region: Region) -> None:
    before = region.programmed()
    vm1, vm3 = region.guests["vm1"], region.guests["vm3"]
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(stream(vm1, vm3, region.address("vm3", family))) for family in FAMILIES]
        pings = [vm1.start_ping(region.address("vm3", family), rate=RATE) for family in FAMILIES]
        for ping in pings:
            ping.wait_received(RATE // 2)
        with without_control_plane(region):
            for established in streams:
                established.exchange()
            for source, target in (("vm1", "vm2"), ("vm2", "vm4"), ("vm4", "vm1"), ("vm5", "vm6")):
                region.expect_ping(source, target)
                for family in FAMILIES:
                    with stream(region.guests[source], region.guests[target], region.address(target, family)) as new:
                        new.exchange()
            for ping in pings:
                ping.wait_received(RATE)
        for established in streams:
            established.exchange()
        for ping in pings:
            result = ping.stop()
            assert result.sent == result.received > 2 * RATE, result
    region.wait_programmed(before)


def test_a_guest_that_boots_meanwhile_gets_its_addresses_and_reaches_the_others(region: Region) -> None:
    vm4 = region.guests["vm4"]
    assert vm4.dhcp is not None
    with without_control_plane(region):
        vm4.dhcp.stop()
        wait_until(lambda: not vm4.has_addresses(), "the client has given its addresses back", 10)
        vm4.start_dhcp()
        region.wait_addresses("vm4")
        region.expect_ping("vm4", "vm3")
        region.expect_ping("vm4", "vm1")
