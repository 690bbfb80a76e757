"""Garbage collection: an object whose owners are all gone is deleted; foreground and orphan deletions are carried out.

`plan_dependent` is the pure decision. `Graph` is what is known of owners and dependents from the informers; absence is
never concluded from it but always from the store. An owner lives in its dependent's namespace or is cluster-scoped;
a reference that cannot be resolved (kind not served here, or a cluster-scoped dependent of a namespaced owner) never
causes a deletion.
"""

import asyncio
import enum
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery import metrics
from apimachinery.client import KindClient
from apimachinery.controller import Controller, ControllerContext, Result
from apimachinery.errors import NotFound
from apimachinery.finalizers import FOREGROUND_DELETION, ORPHAN_DEPENDENTS, drop_finalizer, has_finalizer, is_deleting
from apimachinery.informer import Change, Informer, Key
from apimachinery.scheme import KindInfo, Scheme, metadata_of

_log = structlog.get_logger(__name__)

# Uids that were seen to be gone. A uid is never used again, so an entry is true for ever.
_REMEMBERED_ABSENT: Final = 10_000

# Objects of any kind pass through here.
AnyInformer = Informer[Any]
AnyClient = KindClient[Any]


class OwnerState(enum.Enum):
    """What is known of one owner of a dependent."""

    SOLID = enum.auto()
    """Exists, or cannot be resolved: the dependent stays."""
    WAITING = enum.auto()
    """Is being deleted in the foreground and waits for its dependents."""
    ABSENT = enum.auto()
    """The store has no object of this name and uid."""


class Action(enum.Enum):
    """What happens to a dependent."""

    KEEP = enum.auto()
    DROP_REFERENCES = enum.auto()
    """It has a solid owner: references to the others are removed."""
    DELETE = enum.auto()
    DELETE_FOREGROUND = enum.auto()


def plan_dependent(owners: Sequence[OwnerState], *, has_dependents: bool) -> Action:
    """What to do with an object, given the states of its owners."""
    if all(state is OwnerState.SOLID for state in owners):
        return Action.KEEP
    if OwnerState.SOLID in owners:
        return Action.DROP_REFERENCES
    # The owner waits until this object is gone for good, so this one must wait for its own dependents.
    if OwnerState.WAITING in owners and has_dependents:
        return Action.DELETE_FOREGROUND
    return Action.DELETE


@dataclass(frozen=True, slots=True)
class Node:
    """An object of the graph."""

    info: KindInfo
    obj: Message

    @property
    def meta(self) -> meta_pb2.ObjectMeta:
        """Its metadata."""
        return metadata_of(self.obj)


class Graph:
    """Objects by uid, and which of them name which owner."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}

    def put(self, info: KindInfo, obj: Message) -> None:
        """Adds or replaces an object."""
        uid = metadata_of(obj).uid
        self.remove(uid)
        self.nodes[uid] = Node(info, obj)
        for owner in metadata_of(obj).owner_references:
            self._dependents.setdefault(owner.uid, set()).add(uid)

    def remove(self, uid: str) -> None:
        """Forgets an object; what names it as owner stays known."""
        node = self.nodes.pop(uid, None)
        if node is None:
            return
        for owner in node.meta.owner_references:
            dependents = self._dependents.get(owner.uid)
            if dependents is not None:
                dependents.discard(uid)
                if not dependents:
                    del self._dependents[owner.uid]

    def dependents(self, uid: str) -> list[str]:
        """Uids of objects that name this uid as owner."""
        return list(self._dependents.get(uid, ()))


class GarbageCollector:
    """Collects all kinds of `scheme`. Run `controller` (with `run_controllers`)."""

    def __init__(self, context: ControllerContext, scheme: Scheme, *, workers: int = 4) -> None:
        self._scheme = scheme
        self._graph = Graph()
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._told: set[tuple[str, str]] = set()
        self._clients: dict[type[Message], AnyClient] = {}
        informers: list[AnyInformer] = []
        for info in scheme:
            informer: AnyInformer = context.informer(info.message_class)
            self._clients[info.message_class] = informer.client
            informer.add_handler(self._follow(info))
            informers.append(informer)
        watches = [(informer, _keys_to_check) for informer in informers]
        self.controller = Controller("garbage-collector", self.reconcile, watches, workers=workers)

    def _follow(self, info: KindInfo) -> Any:
        def follow(change: Change[Message]) -> None:
            if change.old is not None and (change.new is None or _uid(change.new) != _uid(change.old)):
                self._gone(change.old)
            if change.new is not None:
                self._graph.put(info, change.new)

        return follow

    def _gone(self, obj: Message) -> None:
        uid = _uid(obj)
        self._graph.remove(uid)
        owners = [owner.uid for owner in metadata_of(obj).owner_references]
        self._enqueue((*self._graph.dependents(uid), *owners))

    def _enqueue(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self.controller.enqueue(Key("", uid))

    async def reconcile(self, key: Key) -> Result | None:
        """Does what is due for the object of this uid, as an owner and as a dependent."""
        node = self._graph.nodes.get(key.name)
        if node is None:
            return None
        if is_deleting(node.obj):
            if has_finalizer(node.obj, ORPHAN_DEPENDENTS):
                await self._orphan_dependents(node)
            elif has_finalizer(node.obj, FOREGROUND_DELETION):
                await self._wait_for_dependents(node)
        elif node.meta.owner_references:
            await self._check_owners(node)
        return None

    # As an owner

    async def _orphan_dependents(self, node: Node) -> None:
        uid = node.meta.uid
        for dependent in await self._dependents_in_store(uid):
            await self._drop_references(dependent, {uid})
        await drop_finalizer(self._client(node), node.obj, ORPHAN_DEPENDENTS)

    async def _wait_for_dependents(self, node: Node) -> None:
        uid = node.meta.uid
        known = self._graph.dependents(uid)
        # Each of them sees this owner waiting and is deleted; the last one's end comes back here.
        self._enqueue(known)
        if any(_blocks(self._graph.nodes[dependent].obj, uid) for dependent in known):
            return
        if any(_blocks(dependent.obj, uid) for dependent in await self._dependents_in_store(uid)):
            return  # its informer is behind, and will lead here again
        await drop_finalizer(self._client(node), node.obj, FOREGROUND_DELETION)

    async def _dependents_in_store(self, uid: str) -> list[Node]:
        """All dependents, also those that the informers have not seen yet."""
        selector = {"metadata.owner_references.uid": uid}
        infos = list(self._scheme)
        lists = await asyncio.gather(*(self._clients[info.message_class].list(fields=selector) for info in infos))
        return [Node(info, obj) for info, objects in zip(infos, lists, strict=True) for obj in objects]

    # As a dependent

    async def _check_owners(self, node: Node) -> None:
        references = list(node.meta.owner_references)
        states = [await self._owner_state(node, reference) for reference in references]
        action = plan_dependent(states, has_dependents=bool(self._graph.dependents(node.meta.uid)))
        if action is Action.KEEP:
            return
        if action is Action.DROP_REFERENCES:
            gone = {r.uid for r, state in zip(references, states, strict=True) if state is not OwnerState.SOLID}
            await self._drop_references(node, gone)
            return
        policy = (
            meta_pb2.PROPAGATION_POLICY_FOREGROUND
            if action is Action.DELETE_FOREGROUND
            else meta_pb2.PROPAGATION_POLICY_BACKGROUND
        )
        meta = node.meta
        try:
            # The version that the decision is about: an owner added meanwhile makes it a Conflict and a new decision.
            await self._client(node).delete(
                meta.namespace,
                meta.name,
                uid=meta.uid,
                resource_version=meta.resource_version,
                propagation=policy,
            )
        except NotFound:
            return
        metrics.GC_DELETIONS.add(1, {"kind": node.info.resource_type})
        owners = [f"{reference.kind} {reference.name}" for reference in references]
        _log.info(
            "deleted with its owner", kind=node.info.kind, object=str(Key(meta.namespace, meta.name)), owners=owners
        )

    async def _drop_references(self, node: Node, uids: set[str]) -> None:
        obj = type(node.obj)()
        obj.CopyFrom(node.obj)
        meta = metadata_of(obj)
        kept = [reference for reference in meta.owner_references if reference.uid not in uids]
        del meta.owner_references[:]
        meta.owner_references.extend(kept)
        try:
            await self._client(node).update(obj)
        except NotFound:
            return

    async def _owner_state(self, node: Node, reference: meta_pb2.OwnerReference) -> OwnerState:
        info = self._scheme.get(reference.api_version, reference.kind)
        if info is None:
            self._tell_once(node, reference, "its kind is not served here")
            return OwnerState.SOLID
        if info.namespaced and not node.info.namespaced:
            self._tell_once(node, reference, "a cluster-scoped object cannot have a namespaced owner")
            return OwnerState.SOLID
        namespace = node.meta.namespace if info.namespaced else ""
        known = self._graph.nodes.get(reference.uid)
        if (
            known is not None
            and known.info is info
            and (known.meta.namespace, known.meta.name)
            == (
                namespace,
                reference.name,
            )
        ):
            return _state_of(known.obj)
        if reference.uid in self._absent:
            return OwnerState.ABSENT
        found = await self._clients[info.message_class].find(namespace, reference.name)
        if found is not None and _uid(found) == reference.uid:
            return _state_of(found)
        if known is None:
            # Known under another name or namespace, it is absent only for this reference.
            self._absent[reference.uid] = None
            if len(self._absent) > _REMEMBERED_ABSENT:
                self._absent.popitem(last=False)
        return OwnerState.ABSENT

    def _tell_once(self, node: Node, reference: meta_pb2.OwnerReference, reason: str) -> None:
        pair = (node.meta.uid, reference.uid)
        if pair in self._told or len(self._told) >= _REMEMBERED_ABSENT:
            return
        self._told.add(pair)
        dependent = f"{node.info.kind} {Key(node.meta.namespace, node.meta.name)}"
        owner = f"{reference.api_version} {reference.kind} {reference.name}"
        _log.warning("owner reference is not followed", dependent=dependent, owner=owner, reason=reason)

    def _client(self, node: Node) -> AnyClient:
        return self._clients[node.info.message_class]


def _uid(obj: Message) -> str:
    return metadata_of(obj).uid


def _keys_to_check(obj: Message) -> Iterable[Key]:
    return (Key("", _uid(obj)),) if metadata_of(obj).owner_references or is_deleting(obj) else ()


def _state_of(owner: Message) -> OwnerState:
    waits = is_deleting(owner) and has_finalizer(owner, FOREGROUND_DELETION)
    return OwnerState.WAITING if waits else OwnerState.SOLID


def _blocks(dependent: Message, uid: str) -> bool:
    return any(r.uid == uid and r.block_owner_deletion for r in metadata_of(dependent).owner_references)
