"""Any process may be killed at any moment, twice in a row: nothing that a host can forward is lost, nothing changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Measure
from tests.lab.guest import BackgroundPing
from tests.lab.process import Process
from tests.lab.region import FAMILIES, Region, wait_until

pytestmark = pytest.mark.timeout(120, func_only=True)

RATE = 100
# The longest time for which a killed engine may leave its guests alone, in seconds.
LONGEST_OUTAGE = 10.0


@pytest.fixture
def pings(region: Region) -> Iterator[dict[str, BackgroundPing]]:
    """Pings across hosts that run during the test, by family."""
    running = {f: region.guests["vm1"].start_ping(region.address("vm3", f), rate=RATE) for f in FAMILIES}
    try:
        for ping in running.values():
            ping.wait_received(RATE // 2)
        yield running
    finally:
        for ping in running.values():
            ping.stop()


def kill_in_a_row(process: Process) -> None:
    """Kill it out of the blue, while it starts, and as soon as it is ready; start it after each; it is ready then."""
    process.kill()
    start = process.log_size()
    process.start()
    wait_until(lambda: process.log_size() > start, f"{process.name} has begun to start", 10)
    process.kill()
    process.start()
    process.wait_ready()
    process.kill()
    process.start()
    process.wait_ready()


@pytest.mark.parametrize("name", ["server", "metalbond", "metalnet-daemon-hv1", "metalnet-daemon-hv2"])
def test_no_packet_is_lost_while_a_control_process_is_killed(
    region: Region, pings: dict[str, BackgroundPing], name: str
) -> None:
    before = region.programmed()
    assert all(len(kinds["interfaces"]) == 3 and kinds["routes"] for kinds in before.values())
    kill_in_a_row(next(process for process in region.stack.processes() if process.name == name))
    region.wait_programmed(before)
    for ping in pings.values():
        ping.wait_received(RATE)
    for family, ping in pings.items():
        result = ping.stop()
        assert result.sent == result.received > 0, f"{family}: {result}"
        assert ping.duplicates() == 0, family
    assert region.programmed() == before


def test_no_packet_is_lost_while_all_control_processes_are_killed_at_once(
    region: Region, pings: dict[str, BackgroundPing]
) -> None:
    before = region.programmed()
    for _ in range(2):
        for process in region.stack.control_processes():
            process.kill()
        region.repair()
    region.wait_programmed(before)
    for family, ping in pings.items():
        ping.wait_received(RATE)
        result = ping.stop()
        assert result.sent == result.received > 0, f"{family}: {result}"


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_engine_is_programmed_again_by_itself(
    region: Region, pings: dict[str, BackgroundPing], measure: Measure, number: int
) -> None:
    hypervisor = region.topology.hypervisors[number]
    guest = region.guests[f"vm{1 + 2 * number}"]
    before, link = region.programmed(), guest.link_index()
    engine = region.stack.engines[hypervisor.name]
    engine.kill()
    engine.start()
    engine.wait_ready()
    for ping in pings.values():
        ping.wait_received(RATE)
    # The same interfaces under the same underlay addresses, and the same routes to the other host.
    region.wait_programmed(before)
    assert guest.link_index() == link
    assert guest.dhcp is not None
    assert guest.dhcp.running
    for family, ping in pings.items():
        result = ping.stop()
        gap = ping.longest_gap()
        assert result.lost > 0, "the engine was not killed under traffic"
        assert gap < LONGEST_OUTAGE
        measure(
            f"outage of {family} by kill -9 of dpservice on {hypervisor.name}", f"{gap:.2f} s, {result.lost} packets"
        )
    for source, target in (("vm1", "vm2"), ("vm2", "vm4"), ("vm5", "vm6")):
        region.expect_ping(source, target)


def test_an_interface_that_is_created_after_kills_works_and_leaves_nothing_behind(region: Region) -> None:
    before = region.programmed()
    for process in region.stack.control_processes():
        process.kill()
    region.repair()
    with region.visitor("vm7", 2, ("10.20.0.7", "fd20::7")) as place:
        place.guest.start_dhcp()
        region.wait_addresses("vm7")
        for source in ("vm1", "vm4"):
            for address in (place.ipv4, place.ipv6):
                region.guests[source].wait_reachable(address)
            region.expect_ping(source, "vm7")
    region.wait_programmed(before)
