"""Network ids: every one is taken by exactly one Network."""

from __future__ import annotations

import re

from ironcore.apinet.v1 import network_id_pb2, network_pb2
from ironcore.meta.v1 import meta_pb2

from apimachinery.errors import FailedPrecondition, FieldViolation
from apimachinery.resource import WritePlan
from apimachinery.store import Store
from ironcore_net_server.allocation.allocator import Allocator
from ironcore_net_server.apinet.claims import claim_owner, claim_ref
from ironcore_net_server.apinet.settings import MAX_NETWORK_ID, MIN_NETWORK_ID, ApinetSettings
from ironcore_net_server.objects import read_object

_DECIMAL = re.compile(r"[1-9][0-9]{0,7}")


def parse_network_id(text: str) -> int | None:
    """The id of a text in canonical decimal form within 1..16777215, else None."""
    if _DECIMAL.fullmatch(text) is None:
        return None
    number = int(text)
    return number if MIN_NETWORK_ID <= number <= MAX_NETWORK_ID else None


class NetworkIds:
    """Takes and gives back network ids within the transactions of their networks."""

    def __init__(self, store: Store, settings: ApinetSettings) -> None:
        self.pool = settings.network_ids
        self.quarantine_seconds = settings.quarantine_seconds
        self._allocator = Allocator(
            store, "/claims/networkids/", [self.pool], what="network id", name_of=str, number_of=parse_network_id
        )

    def claim_key(self, name: str) -> str:
        """Key of the claim on an id."""
        return self._allocator.prefix + name

    async def take(self, plan: WritePlan, network: network_pb2.Network) -> None:
        """Gives a new network its id: the one that it names, or a free one, in place.

        Raises FailedPrecondition (taken), ResourceExhausted.
        """
        owner = claim_owner(network)
        given = parse_network_id(network.spec.id)
        if given is None:
            network.spec.id = str(await self._allocator.take(plan, owner))
        else:
            taken = FailedPrecondition(
                f"network id {given} is taken or was released a moment ago",
                reason="NETWORK_ID_TAKEN",
                violations=[FieldViolation("spec.id", "is taken")],
            )
            self._allocator.take_given(plan, given, owner, taken)
        plan.create_object(
            network_id_pb2.NetworkID(
                metadata=meta_pb2.ObjectMeta(name=network.spec.id),
                spec=network_id_pb2.NetworkIDSpec(claim_ref=claim_ref(network, namespaced=True)),
            )
        )

    async def give_back(self, plan: WritePlan, network: network_pb2.Network) -> None:
        """Gives the id of a vanishing network back, after the quarantine."""
        record = await read_object(plan.store, network_id_pb2.NetworkID, "", network.spec.id)
        if record is not None and record.spec.claim_ref.uid == network.metadata.uid:
            plan.delete_object(record)
        plan.release(self.claim_key(network.spec.id), quarantine_seconds=self.quarantine_seconds)
