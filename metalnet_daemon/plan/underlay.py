"""Stable underlay addresses: which address each object asks the engine for.

An engine that restarts would hand out new addresses, and every route to this host would be wrong until the whole
fabric has heard of them. The engine accepts an address of the caller's choice if it lies in the host's /64 and has bit
0x80 of byte 10 set (generated addresses have it clear, so the two kinds never collide). The choice is a hash of the
object's identity: the same after a restart of the engine, of the daemon, and after loss of the daemon's state.

    bytes 0-7 host prefix | 8: 0xd0 | 9: sub-type | 10: 0x80 | 11-15: 40 bit hash
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, IPv6Network

from .types import Desired, PrefixKey

INTERFACE_SUBTYPE = 1
_ADDRESS_TYPE = 0xD0
_CHOSEN_FLAG = 0x80
_HASH_BYTES = 5

# What owns an underlay address: an interface id or a prefix record.
Owner = str | PrefixKey


def owners(desired: Desired) -> list[Owner]:
    """Everything of the desired state that needs an underlay address."""
    return [*desired.interfaces, *desired.prefixes]


def choose_underlays(
    host: IPv6Network | None, wanted: Iterable[Owner], in_use: Mapping[Owner, IPv6Address]
) -> dict[Owner, IPv6Address]:
    """Choose the address each owner asks for; empty while the host's /64 is unknown.

    in_use: addresses the engine has given out, by owner. An owner keeps a chosen address it already has, whatever it
    was derived from; two owners never get the same one.
    """
    if host is None:
        return {}
    chosen: dict[Owner, IPv6Address] = {}
    pending: list[Owner] = []
    for owner in wanted:
        current = in_use.get(owner)
        if current is not None and current in host and is_chosen(current):
            chosen[owner] = current
        else:
            pending.append(owner)
    taken = set(chosen.values()) | set(in_use.values())
    for owner in sorted(pending, key=_identity):
        salt = 0
        while (address := derive(host, owner, salt)) in taken:
            salt += 1
        taken.add(address)
        chosen[owner] = address
    return chosen


def derive(host: IPv6Network, owner: Owner, salt: int = 0) -> IPv6Address:
    """The address of an owner within the host's /64; `salt` gives further ones if that is taken."""
    subtype = INTERFACE_SUBTYPE if isinstance(owner, str) else owner.kind.value
    digest = hashlib.blake2b(
        _identity(owner).encode(), digest_size=_HASH_BYTES, salt=salt.to_bytes(hashlib.blake2b.SALT_SIZE, "big")
    ).digest()
    low = bytes((_ADDRESS_TYPE, subtype, _CHOSEN_FLAG)) + digest
    return IPv6Address(host.network_address.packed[:8] + low)


def is_chosen(address: IPv6Address) -> bool:
    """True if the address was chosen by a caller, so that an engine accepts it again."""
    return bool(address.packed[10] & _CHOSEN_FLAG)


def host_network(address: IPv6Address) -> IPv6Network:
    """The /64 that all underlay addresses of one host share."""
    return IPv6Network((int(address) >> 64 << 64, 64))


def _identity(owner: Owner) -> str:
    return owner if isinstance(owner, str) else f"{owner.interface_id}/{owner.kind.name}/{owner.prefix}"
