"""Public addresses: every one is taken by exactly one IP object, and used by at most one claimer.

One address is three keys that live and die in one transaction: the claim (which decides, and stays for the quarantine),
the IPAddress object (which shows it) and the IP object (the handle in a namespace).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message
from ironcore.apinet.v1 import ip_address_pb2, ip_pb2
from ironcore.meta.v1 import meta_pb2, types_pb2

from apimachinery.errors import FailedPrecondition, FieldViolation, InvalidArgument
from apimachinery.resource import WritePlan
from apimachinery.scheme import kind_info, metadata_of
from apimachinery.store import Store
from ironcore_net_server.allocation.allocator import Allocator
from ironcore_net_server.allocation.pool import Pool, to_address
from ironcore_net_server.apinet.claims import claim_owner, claim_ref, describe, is_used
from ironcore_net_server.apinet.names import IP_FAMILY_LABEL, IP_LABEL
from ironcore_net_server.apinet.settings import ApinetSettings
from ironcore_net_server.objects import read_object
from ironcore_net_server.rules import FAMILY_TEXT, IPV4, IPV6, Family, parse_ip

# Room for the random end of a generated name within a DNS label.
_NAME_PREFIX = 57
_NAME_RANDOM_BYTES = 3


class AddressEntry(Protocol):
    """Entry of a list of addresses: allocated if `ip` is empty."""

    name: str
    ip: str


@dataclass(frozen=True, slots=True)
class AddressRequest:
    """One entry of a claimer that wants an address; `path` is where it stands."""

    entry: AddressEntry
    family: Family
    path: str


def keep_addresses(new: Iterable[AddressEntry], old: Iterable[AddressEntry]) -> None:
    """Fills addresses that an update left out from the old entries of the same name. Pure, in place."""
    known = {entry.name: entry.ip for entry in old}
    for entry in new:
        if not entry.ip:
            entry.ip = known.get(entry.name, "")


class PublicAddresses:
    """Takes and gives back public addresses within the transactions of their users."""

    def __init__(self, store: Store, settings: ApinetSettings) -> None:
        self.quarantine_seconds = settings.quarantine_seconds
        self._allocators = {
            IPV4: _allocator(store, settings.ipv4, 4),
            IPV6: _allocator(store, settings.ipv6, 6),
        }

    async def take_for_ip(self, plan: WritePlan, ip: ip_pb2.IP) -> None:
        """Gives a new IP object its address: the one that it names, or a free one of its family.

        Raises InvalidArgument (outside the pools), FailedPrecondition (taken), ResourceExhausted.
        """
        allocator = self._allocators[ip.spec.ip_family]
        owner = claim_owner(ip)
        if ip.spec.ip:
            self._take_given(plan, allocator, ip.spec.ip, owner)
        else:
            number = await allocator.take(plan, owner)
            ip.spec.ip = allocator.name_of(number)
        plan.create_object(_ip_address(ip))

    async def release_for_ip(self, plan: WritePlan, ip: ip_pb2.IP) -> None:
        """Gives the address of a vanishing IP object back, after the quarantine."""
        record = await read_object(plan.store, ip_address_pb2.IPAddress, "", ip.spec.ip)
        if record is not None and record.spec.claim_ref.uid == ip.metadata.uid:
            plan.delete_object(record)
        plan.release(self.claim_key(ip.spec.ip), quarantine_seconds=self.quarantine_seconds)

    def claim_key(self, address: str) -> str:
        """Key of the claim on a canonical address."""
        return self._allocators[IPV6 if ":" in address else IPV4].prefix + address

    async def exchange(
        self, plan: WritePlan, claimer: Message, requests: Sequence[AddressRequest], old: Iterable[str]
    ) -> None:
        """Moves a claimer from its `old` addresses to what it requests, in place; no requests: gives all back.

        An entry without address gets a new IP object that belongs to the claimer; one with an address needs an IP
        object of the claimer's namespace that nobody else claims. Raises FailedPrecondition, ResourceExhausted.
        """
        had = {address for address in old if address}
        for request in requests:
            if not request.entry.ip:
                await self._create_ephemeral(plan, claimer, request)
            elif request.entry.ip not in had:
                await self._claim_static(plan, claimer, request)
        for address in sorted(had - {request.entry.ip for request in requests}):
            await self._give_back(plan, claimer, address)

    def _take_given(self, plan: WritePlan, allocator: Allocator, text: str, owner: str) -> None:
        address = parse_ip(text)
        if address is None or allocator.pool_of(int(address)) is None:
            pools = ", ".join(pool.name for pool in allocator.pools) or "none"
            message = f"is not in a public prefix ({pools})"
            raise InvalidArgument("the address cannot be given out", violations=[FieldViolation("spec.ip", message)])
        taken = FailedPrecondition(
            f"address {text} is taken or was released a moment ago",
            reason="ADDRESS_TAKEN",
            violations=[FieldViolation("spec.ip", "is taken")],
        )
        allocator.take_given(plan, int(address), owner, taken)

    async def _create_ephemeral(self, plan: WritePlan, claimer: Message, request: AddressRequest) -> None:
        meta = metadata_of(claimer)
        info = kind_info(claimer)
        ip = ip_pb2.IP(
            metadata=meta_pb2.ObjectMeta(
                name=f"{meta.name[:_NAME_PREFIX]}-{secrets.token_hex(_NAME_RANDOM_BYTES)[:5]}",
                namespace=meta.namespace,
                owner_references=[
                    meta_pb2.OwnerReference(
                        api_version=info.api_version,
                        kind=info.kind,
                        name=meta.name,
                        uid=meta.uid,
                        controller=True,
                        block_owner_deletion=True,
                    )
                ],
            ),
            spec=ip_pb2.IPSpec(type=types_pb2.IP_TYPE_PUBLIC, ip_family=request.family),
        )
        ip.spec.claim_ref.CopyFrom(claim_ref(claimer, namespaced=False))
        # Sets the uid, to which the claim and the IPAddress refer.
        plan.create_object(ip)
        await self.take_for_ip(plan, ip)
        set_labels(ip)
        request.entry.ip = ip.spec.ip

    async def _claim_static(self, plan: WritePlan, claimer: Message, request: AddressRequest) -> None:
        meta, address, path = metadata_of(claimer), request.entry.ip, request.path
        ip = await self._find_ip(plan.store, meta.namespace, address)
        if ip is None:
            raise _refused(path, "IP_NOT_FOUND", f"namespace {meta.namespace} has no IP object for {address}")
        if ip.metadata.HasField("deletion_timestamp"):
            raise _refused(path, "IP_DELETED", f"IP {ip.metadata.name} is being deleted")
        if ip.spec.HasField("claim_ref"):
            if ip.spec.claim_ref.uid == meta.uid:
                return
            if await is_used(plan.store, ip):
                raise _refused(path, "IP_CLAIMED", f"{address} is claimed by {describe(ip.spec.claim_ref)}")
        claimed = ip_pb2.IP()
        claimed.CopyFrom(ip)
        claimed.spec.claim_ref.CopyFrom(claim_ref(claimer, namespaced=False))
        plan.put_object(claimed, ip)

    async def _give_back(self, plan: WritePlan, claimer: Message, address: str) -> None:
        meta = metadata_of(claimer)
        ip = await self._find_ip(plan.store, meta.namespace, address)
        if ip is None or ip.spec.claim_ref.uid != meta.uid:
            return
        if any(owner.controller and owner.uid == meta.uid for owner in ip.metadata.owner_references):
            plan.delete_object(ip)
            await self.release_for_ip(plan, ip)
        else:
            free = ip_pb2.IP()
            free.CopyFrom(ip)
            free.spec.ClearField("claim_ref")
            plan.put_object(free, ip)

    async def _find_ip(self, store: Store, namespace: str, address: str) -> ip_pb2.IP | None:
        record = await read_object(store, ip_address_pb2.IPAddress, "", address)
        if record is None or record.spec.claim_ref.namespace != namespace:
            return None
        ip = await read_object(store, ip_pb2.IP, namespace, record.spec.claim_ref.name)
        return ip if ip is not None and ip.metadata.uid == record.spec.claim_ref.uid else None


def set_labels(ip: ip_pb2.IP) -> None:
    """Labels by which clients look for an address. In place."""
    ip.metadata.labels[IP_FAMILY_LABEL] = FAMILY_TEXT[ip.spec.ip_family]
    text = ip.spec.ip.replace(":", "-")
    # A value must begin and end with a letter or digit, which fd00:: does not; the field spec.ip finds all of them.
    if text[0] != "-" and text[-1] != "-":
        ip.metadata.labels[IP_LABEL] = text


def _ip_address(ip: ip_pb2.IP) -> ip_address_pb2.IPAddress:
    return ip_address_pb2.IPAddress(
        metadata=meta_pb2.ObjectMeta(name=ip.spec.ip),
        spec=ip_address_pb2.IPAddressSpec(ip=ip.spec.ip, claim_ref=claim_ref(ip, namespaced=True)),
    )


def _refused(path: str, reason: str, message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason=reason, violations=[FieldViolation(path, message)])


def _allocator(store: Store, pools: Sequence[Pool], version: int) -> Allocator:
    def number_of(name: str) -> int | None:
        address = parse_ip(name)
        return int(address) if address is not None and address.version == version else None

    return Allocator(
        store,
        f"/claims/ipv{version}/",
        pools,
        what=f"public IPv{version} address",
        name_of=lambda number: str(to_address(number, version)),
        number_of=number_of,
    )
