"""Started in reverse order, each process waits for what it needs, says so once, and nothing is restarted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pytest

from tests.lab.process import Process
from tests.lab.region import Region, wait_until

pytestmark = pytest.mark.timeout(150, func_only=True)

# What a daemon says of each thing that it needs while that is not there: of the server with its etcd, the engine, and
# the route server.
MISSING = ("API server lost, retrying", "engine lost, retrying", "server not reachable, retrying")
STILL_MISSING = ("API server still lost", "engine still lost")
FOUND = ("API server is back", "engine is back", "server established")
TRIES = 3


def events(process: Process, start: int = 0) -> list[str]:
    """What a process has logged since its log had a size: the names of the events."""
    return [json.loads(line)["event"] for line in process.log_since(start).splitlines() if line.startswith("{")]


def wait_for(processes: Iterable[Process], event: str, starts: dict[str, int], times: int = 1) -> None:
    for process in processes:
        start = starts.get(process.name, 0)
        wait_until(lambda: events(process, start).count(event) >= times, f"{process.name} says {event!r}", 30)  # noqa: B023


def expect_once(processes: Sequence[Process], names: Sequence[str], starts: dict[str, int]) -> None:
    for name in names:
        wait_for(processes, name, starts)
    for process in processes:
        said = events(process, starts.get(process.name, 0))
        assert {name: said.count(name) for name in names} == dict.fromkeys(names, 1), process.name


def test_from_nothing(cold_region: Region) -> None:
    stack, starts = cold_region.stack, dict[str, int]()
    daemons = list(stack.daemons.values())
    for daemon in daemons:
        daemon.start()
    for event in STILL_MISSING:
        wait_for(daemons, event, starts, TRIES)
    expect_once(daemons, MISSING, starts)
    assert not any(daemon.ready for daemon in daemons)

    stack.metalbond.start()
    stack.metalbond.wait_ready()
    wait_for(daemons, "server established", starts)
    for engine in stack.engines.values():
        engine.start()
    for engine in stack.engines.values():
        engine.wait_ready()
    wait_for(daemons, "engine found", starts)
    # The engine is met, and nobody has said yet what it should have.
    assert not any(daemon.ready for daemon in daemons)

    stack.server.start()
    stack.server.wait_ready()
    assert json.loads(stack.ironctl("get", "networks.networking.ironcore.dev", "-A", "-o", "json"))["items"] == []
    for daemon in daemons:
        daemon.wait_ready()
    cold_region.populate()
    cold_region.expect_ping("vm1", "vm2")
    expect_once(daemons, (*MISSING, *FOUND, "daemon starts", "daemon is synced"), starts)
    assert all(process.running for process in stack.processes())


def test_with_guests_that_were_there_before(region: Region) -> None:
    """Hosts know from their own disks what they forwarded, and do so again before there is a server."""
    stack, before = region.stack, region.programmed()
    stack.stop()
    assert not any(process.running for process in stack.processes())
    assert not stack.etcd_pids()
    starts = {process.name: process.log_size() for process in stack.processes()}
    daemons = list(stack.daemons.values())
    for daemon in daemons:
        daemon.start()
    expect_once(daemons, MISSING, starts)
    stack.metalbond.start()
    stack.metalbond.wait_ready()
    for engine in stack.engines.values():
        engine.start()
    for engine in stack.engines.values():
        engine.wait_ready()
    region.wait_programmed(before)
    for source, target in (("vm1", "vm2"), ("vm1", "vm3"), ("vm5", "vm6")):
        for family in ("ipv4", "ipv6"):
            region.guests[source].wait_reachable(region.address(target, family))
        region.expect_ping(source, target)
    assert not any(daemon.ready for daemon in daemons)

    stack.server.start()
    stack.server.wait_ready()
    for daemon in daemons:
        daemon.wait_ready()
    assert region.programmed() == before
    expect_once(daemons, (*MISSING, *FOUND, "daemon starts", "daemon is synced"), starts)
    region.expect_ping("vm4", "vm2")
