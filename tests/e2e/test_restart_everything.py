"""All processes die at once and come back in any order: the same addresses and the same forwarding as before."""

from __future__ import annotations

import json
import random

import pytest

from tests.e2e.conftest import Measure
from tests.lab.region import FAMILIES, Region, wait_until

pytestmark = pytest.mark.timeout(150, func_only=True)

RATE = 100
KINDS = (
    "networks.networking.ironcore.dev",
    "networkinterfaces.networking.ironcore.dev",
    "virtualips.networking.ironcore.dev",
    "networks.core.apinet.ironcore.dev",
    "networkinterfaces.core.apinet.ironcore.dev",
    "networkinterfaces.networking.metalnet.ironcore.dev",
)


def objects(region: Region) -> dict[str, object]:
    """Every object of the region by kind, namespace and name: who it is and what it is meant to be."""
    found: dict[str, object] = {}
    for kind in KINDS:
        document = json.loads(region.stack.ironctl("get", kind, "-A", "-o", "json"))
        for item in document["items"]:
            metadata = item["metadata"]
            found[f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"] = (metadata["uid"], item["spec"])
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_once_and_started_in_random_order(region: Region, measure: Measure, seed: int) -> None:
    stack = region.stack
    before, declared = region.programmed(), objects(region)
    assert len(declared) >= 2 * len(region.guests)
    guests = {name: (guest.addresses(), guest.link_index()) for name, guest in region.guests.items()}
    pings = {family: region.guests["vm1"].start_ping(region.address("vm3", family), rate=RATE) for family in FAMILIES}
    try:
        for ping in pings.values():
            ping.wait_received(RATE // 2)
        stack.kill()
        wait_until(lambda: not stack.etcd_pids(), "etcd has ended", 10)
        order = list(stack.processes())
        random.Random(seed).shuffle(order)
        for process in order:
            process.start()
        for process in order:
            process.wait_ready()
        # Interfaces with their underlay addresses, and routes.
        region.wait_programmed(before)
        for ping in pings.values():
            ping.wait_received(RATE)
    finally:
        results = {family: ping.stop() for family, ping in pings.items()}
    for family, ping in pings.items():
        assert results[family].lost > 0, "nothing was killed"
        measure(f"outage of {family} by kill -9 of everything, order {seed}", f"{ping.longest_gap():.2f} s")
    assert objects(region) == declared
    assert {name: (guest.addresses(), guest.link_index()) for name, guest in region.guests.items()} == guests
    for source, target in (("vm1", "vm2"), ("vm2", "vm4"), ("vm5", "vm6")):
        region.expect_ping(source, target)
    assert region.programmed() == before
