"""A thousand creates race for five hundred addresses, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from ironcore.apinet.v1 import ip_address_pb2, ip_pb2, network_pb2
from ironcore.meta.v1 import meta_pb2, types_pb2

from apimachinery.client import Client
from apimachinery.errors import ResourceExhausted
from apimachinery.store import Store
from tests.support.apinet import coordinators, wait_empty

# 256 + 128 + 64 + 32 + 16 + 4 addresses.
PREFIXES = [
    "203.0.113.0/24",
    "198.51.100.0/25",
    "198.51.100.128/26",
    "192.0.2.0/27",
    "192.0.2.32/28",
    "192.0.2.64/30",
]
ADDRESSES = 500
CREATES = 1000


def public_ip(name: str) -> ip_pb2.IP:
    return ip_pb2.IP(
        metadata=meta_pb2.ObjectMeta(name=name),
        spec=ip_pb2.IPSpec(type=types_pb2.IP_TYPE_PUBLIC, ip_family=types_pb2.IP_FAMILY_IPV4),
    )


async def claims(store: Store) -> set[str]:
    return {item.key for item in (await store.list("/claims/")).items}


async def race(clients: list[Client]) -> tuple[list[ip_pb2.IP], list[BaseException]]:
    results = await asyncio.gather(
        *(clients[n % len(clients)].kind(ip_pb2.IP).create(public_ip(f"ip-{n}")) for n in range(CREATES)),
        return_exceptions=True,
    )
    won = [result for result in results if isinstance(result, ip_pb2.IP)]
    lost = [result for result in results if isinstance(result, BaseException)]
    return won, lost


@pytest.mark.parametrize("servers", [1, 2])
async def test_five_hundred_of_a_thousand_creates_win(store: Store, servers: int) -> None:
    options = {"public_prefixes": PREFIXES, "quarantine_seconds": 1}
    async with coordinators(store, options, servers) as clients:
        won, lost = await race(list(clients))

        assert Counter(type(error) for error in lost) == {ResourceExhausted: CREATES - ADDRESSES}
        for error in lost:
            assert isinstance(error, ResourceExhausted)
            assert "203.0.113.0/24" in error.exhausted
        taken = {ip.spec.ip for ip in won}
        assert len(won) == len(taken) == ADDRESSES
        records = await clients[0].kind(ip_address_pb2.IPAddress).list()
        assert {record.metadata.name: record.spec.claim_ref.uid for record in records} == {
            ip.spec.ip: ip.metadata.uid for ip in won
        }
        assert await claims(store) == {f"/claims/ipv4/{address}" for address in taken}

        ips = clients[0].kind(ip_pb2.IP)
        await asyncio.gather(*(ips.delete("", ip.metadata.name) for ip in won))
        assert not await ips.list()
        assert not await clients[0].kind(ip_address_pb2.IPAddress).list()
        # The quarantine is all that is left.
        await wait_empty(store, "/claims/")

        again, _ = await race(list(clients))
        assert len({ip.spec.ip for ip in again}) == ADDRESSES


async def test_network_ids_are_unique_and_come_back(store: Store) -> None:
    options = {"min_vni": 100, "max_vni": 149, "quarantine_seconds": 0}
    async with coordinators(store, options, 2) as clients:
        kinds = [client.kind(network_pb2.Network) for client in clients]
        results = await asyncio.gather(
            *(kinds[n % 2].create(network_pb2.Network(metadata=meta_pb2.ObjectMeta(name=f"n{n}"))) for n in range(120)),
            return_exceptions=True,
        )
        won = [result for result in results if isinstance(result, network_pb2.Network)]
        assert sorted(int(network.spec.id) for network in won) == list(range(100, 150))
        assert all(isinstance(r, ResourceExhausted) for r in results if isinstance(r, BaseException))

        await kinds[0].delete("", won[0].metadata.name)
        replacement = await kinds[1].create(network_pb2.Network(metadata=meta_pb2.ObjectMeta(name="again")))
        assert replacement.spec.id == won[0].spec.id
