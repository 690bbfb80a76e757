"""The same calls against the fake engine and the real one: the fake may be trusted, and plans come true."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from metalnet_daemon.plan.planner import evolve, plan
from metalnet_daemon.plan.types import (
    Actual,
    CreateInterface,
    CreatePrefix,
    CreateRoute,
    DeleteInterface,
    DeletePrefix,
    DeleteRoute,
    Desired,
    Interface,
    NextHop,
    Operation,
    Prefix,
    PrefixKey,
    PrefixKind,
    RouteKey,
    Synced,
)
from metalnet_daemon.plan.underlay import choose_underlays, derive, owners
from metalnet_daemon.rim.engine import EngineClient, EngineRefusedError
from metalnet_daemon.rim.execute import execute
from tests.support.dpservice import Dpservice
from tests.support.fake_dpservice import FakeDpservice

DEVICES = tuple(f"net_null{number}" for number in range(2, 6))
HOST = IPv6Network("fc00:1::/64")
VNIS = (100, 200)
ALL = Synced(objects=True, hops=frozenset(VNIS), routes=frozenset(VNIS))
HOPS = (NextHop(100, IPv6Address("fc00:2::1")), NextHop(200, IPv6Address("fc00:3::1")))


@contextlib.asynccontextmanager
async def fake(directory: Path) -> AsyncIterator[str]:
    async with FakeDpservice(directory / "fake.sock", frozenset(DEVICES)) as service:
        yield service.target


@contextlib.asynccontextmanager
async def real(directory: Path) -> AsyncIterator[str]:
    with Dpservice(directory, "--enable-ipv6-overlay") as service:
        yield service.target


@pytest.fixture(params=[fake, real], ids=["fake", "real"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EngineClient]:
    async with request.param(tmp_path) as target:
        client = EngineClient(target)
        await client.identify()
        yield client
        await client.close()


NIC = Interface("a", 100, DEVICES[0], IPv4Address("10.0.0.1"), IPv6Address("fd00::1"), "web")
ALIAS = PrefixKey(PrefixKind.ALIAS, "a", Prefix.parse("10.9.0.0/16"))
BALANCED = PrefixKey(PrefixKind.LOAD_BALANCER, "a", Prefix.parse("192.0.2.1/32"))
V4_ROUTE, V6_ROUTE = RouteKey(100, Prefix.parse("10.0.0.9/32")), RouteKey(100, Prefix.parse("fd00::9/128"))


async def code(engine: EngineClient, operation: Operation) -> int:
    """Status code of the engine's refusal; 0 if the operation succeeded."""
    try:
        await engine.apply(operation)
    except EngineRefusedError as error:
        return error.code
    return 0


async def test_the_uuid_is_the_process(engine: EngineClient) -> None:
    assert await engine.identify() == await engine.identify()
    assert await engine.version("1")


async def test_everything_that_is_created_is_listed(engine: EngineClient) -> None:
    chosen = derive(HOST, "a")
    assert await engine.apply(CreateInterface(NIC, chosen)) == chosen
    assert await engine.apply(CreatePrefix(ALIAS, derive(HOST, ALIAS))) == derive(HOST, ALIAS)
    assert await engine.apply(CreatePrefix(BALANCED, derive(HOST, BALANCED))) == derive(HOST, BALANCED)
    for key in (V4_ROUTE, V6_ROUTE):
        await engine.apply(CreateRoute(key, HOPS[0]))
    actual = await engine.read()
    assert {uid: (found.spec, found.underlay) for uid, found in actual.interfaces.items()} == {"a": (NIC, chosen)}
    assert actual.prefixes == {ALIAS: derive(HOST, ALIAS), BALANCED: derive(HOST, BALANCED)}
    assert actual.routes == {V4_ROUTE: HOPS[0], V6_ROUTE: HOPS[0]}


async def test_refusals_have_the_same_codes(engine: EngineClient) -> None:
    elsewhere = Interface("b", 100, "net_nowhere", IPv4Address("10.0.0.2"), None)
    same_address = Interface("b", 100, DEVICES[1], IPv4Address("10.0.0.1"), None)
    missing = PrefixKey(PrefixKind.ALIAS, "nobody", Prefix.parse("10.9.0.0/16"))
    assert await code(engine, CreateInterface(elsewhere)) == 201
    assert await code(engine, CreateRoute(V4_ROUTE, HOPS[0])) == 206
    assert await code(engine, CreateInterface(NIC)) == 0
    assert await code(engine, CreateInterface(NIC)) == 202
    assert await code(engine, CreateInterface(same_address)) == 301
    assert await code(engine, CreatePrefix(missing)) == 205
    assert await code(engine, CreatePrefix(ALIAS)) == 0
    assert await code(engine, CreatePrefix(ALIAS)) == 301
    assert await code(engine, CreatePrefix(BALANCED)) == 0
    assert await code(engine, CreatePrefix(BALANCED)) == 202
    # A route of a prefix that an interface owns is not replaced: the deletion of what is there is refused.
    assert await code(engine, CreateRoute(RouteKey(100, ALIAS.prefix), HOPS[0])) == 304


async def test_deleting_twice_succeeds_and_an_unlisted_route_is_replaced(engine: EngineClient) -> None:
    await engine.apply(CreateInterface(NIC))
    await engine.apply(CreatePrefix(ALIAS))
    await engine.apply(CreatePrefix(BALANCED))
    await engine.apply(CreateRoute(V6_ROUTE, HOPS[0]))
    await engine.apply(CreateRoute(V6_ROUTE, HOPS[1]))
    assert (await engine.read()).routes == {V6_ROUTE: HOPS[1]}
    for operation in (DeletePrefix(ALIAS), DeletePrefix(BALANCED), DeleteRoute(V6_ROUTE), DeleteInterface("a")):
        assert await code(engine, operation) == 0
        assert await code(engine, operation) == 0
    assert await engine.read() == Actual()


async def test_an_underlay_address_that_is_taken_or_foreign_is_replaced_by_the_engine(engine: EngineClient) -> None:
    taken = derive(HOST, "a")
    await engine.apply(CreateInterface(NIC, taken))
    for name, device, wish in (("b", DEVICES[1], taken), ("c", DEVICES[2], IPv6Address("fc00:9::d001:8000:0:1"))):
        other = Interface(name, 200, device, IPv4Address("10.0.0.1"), None)
        got = await engine.apply(CreateInterface(other, wish))
        assert got is not None
        assert got != wish
        assert got in HOST
        await engine.apply(DeleteInterface(name))


async def test_prefix_records_outlive_their_interface(engine: EngineClient) -> None:
    await engine.apply(CreateInterface(NIC))
    await engine.apply(CreatePrefix(BALANCED))
    await engine.apply(DeleteInterface("a"))
    await engine.apply(CreateInterface(NIC))
    assert (await engine.read()).prefixes.keys() == {BALANCED}


def random_state(chance: random.Random) -> Desired:
    """A state that the engine can hold."""
    interfaces: dict[str, Interface] = {}
    prefixes: dict[PrefixKey, IPv6Address | None] = {}
    local: set[RouteKey] = set()
    devices = chance.sample(DEVICES, len(DEVICES))
    for number in range(chance.randint(0, 4)):
        vni, name = chance.choice(VNIS), f"nic{number}"
        ipv4 = IPv4Address(f"10.0.0.{chance.randint(1, 5)}")
        if RouteKey(vni, Prefix.host(ipv4)) in local:
            continue
        local.add(RouteKey(vni, Prefix.host(ipv4)))
        interfaces[name] = Interface(name, vni, devices[number], ipv4, None, chance.choice(("", "web")))
        for prefix in (Prefix.parse("10.1.0.0/16"), Prefix.parse("2001:db8::/48")):
            if chance.random() < 0.5 and RouteKey(vni, prefix) not in local:
                local.add(RouteKey(vni, prefix))
                prefixes[PrefixKey(PrefixKind.ALIAS, name, prefix)] = None
        if chance.random() < 0.3:
            prefixes[PrefixKey(PrefixKind.LOAD_BALANCER, name, Prefix.parse("192.0.2.1/32"))] = None
    used = {interface.vni for interface in interfaces.values()}
    routes = {
        RouteKey(vni, prefix): chance.choice(HOPS)
        for vni in used
        for prefix in map(Prefix.parse, ("0.0.0.0/0", "10.0.0.3/32", "10.1.0.0/16", "fd00::9/128", "2001:db8::/48"))
        if chance.random() < 0.5 and RouteKey(vni, prefix) not in local
    }
    return Desired(interfaces=interfaces, prefixes=prefixes, routes=routes)


async def test_every_plan_of_a_random_walk_comes_true(engine: EngineClient) -> None:
    chance = random.Random(20260101)
    actual = await engine.read()
    for _ in range(60):
        state = random_state(chance)
        chosen = choose_underlays(HOST, owners(state), {})
        wanted = Desired(
            interfaces=state.interfaces,
            interface_underlay={uid: chosen[uid] for uid in state.interfaces},
            prefixes={key: chosen[key] for key in state.prefixes},
            routes=state.routes,
        )
        outcome = await execute(engine, plan(wanted, actual, ALL))
        assert not outcome.failed
        assert outcome.lost is None
        predicted, actual = evolve(actual, outcome.done), await engine.read()
        assert {uid: found.spec for uid, found in actual.interfaces.items()} == state.interfaces
        assert {uid: found.underlay for uid, found in actual.interfaces.items()} == wanted.interface_underlay
        assert actual.prefixes == wanted.prefixes
        assert actual.routes == state.routes
        assert (predicted.prefixes, predicted.routes) == (actual.prefixes, actual.routes)
        assert plan(wanted, actual, ALL) == []
