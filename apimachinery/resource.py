"""What a kind adds to the generic resource server: hooks, and the plan of one write.

A write runs ``default`` → generic rules → ``validate`` → ``allocate`` (or ``release``), then everything that was
collected in the :class:`WritePlan` is committed together with the object as one etcd transaction: either all of it
happened or nothing did.
"""

from __future__ import annotations

import importlib.metadata
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from apimachinery.errors import ApiError, FieldViolation, InvalidArgument
from apimachinery.scheme import KindInfo, kind_info, metadata_of

if TYPE_CHECKING:
    from apimachinery.store import Store

GROUPS_ENTRY_POINT: Final = "ironcore.api_groups"

M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)

# Answers one domain verb: (request, context) -> response.
ExtraMethod = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that must be absent and is then put with its owner as the value."""

    key: str
    owner: str
    error: ApiError | None


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """A write of another object: expected_revision 0 means that it must not exist; obj None deletes it."""

    key: str
    expected_revision: int
    obj: Message | None


class WritePlan:
    """What one write changes besides its own object; committed as one transaction with it.

    dry_run: nothing will be committed; allocation may still choose values, so that the answer shows them.
    store:   for reads (linearizable); all writes go through the plan.
    now:     time of the write (UTC), the same for everything that is written.
    """

    def __init__(self, store: Store, *, dry_run: bool = False, now: datetime | None = None) -> None:
        self.store = store
        self.dry_run = dry_run
        self.now = now or datetime.now(UTC)
        self.claims: dict[str, Claim] = {}
        # Key -> seconds of quarantine.
        self.releases: dict[str, int] = {}
        self.objects: dict[str, ObjectChange] = {}

    def claim(self, key: str, owner: str, *, error: ApiError | None = None) -> None:
        """Takes a key for ``owner``. If somebody else has it at commit, ``error`` is raised; without ``error`` the
        whole write starts again and ``allocate`` may choose another key."""
        if key in self.claims:
            raise ValueError(f"{key} is claimed twice by one write")
        self.claims[key] = Claim(key, owner, error)

    def release(self, key: str, *, quarantine_seconds: int = 0) -> None:
        """Gives a key back; with a quarantine it stays taken for so long by a tombstone under a lease."""
        self.releases[key] = quarantine_seconds

    def create_object(self, obj: Message) -> None:
        """Creates an object of another kind. Sets uid, creation time and generation in place; if the name is taken
        at commit, the whole write starts again."""
        meta = metadata_of(obj)
        meta.uid = str(uuid.uuid4())
        meta.creation_timestamp.FromDatetime(self.now.replace(microsecond=0))
        meta.generation = 1
        meta.resource_version = 0
        self._change(obj, 0, obj)

    def put_object(self, obj: Message, old: Message) -> None:
        """Replaces an object of another kind that was read as ``old``; if it changed since, the write starts again."""
        self._change(obj, metadata_of(old).resource_version, obj)

    def delete_object(self, obj: Message) -> None:
        """Removes an object of another kind, without regard to its finalizers; if it changed since it was read, the
        write starts again."""
        self._change(obj, metadata_of(obj).resource_version, None)

    def _change(self, about: Message, expected_revision: int, obj: Message | None) -> None:
        key = kind_info(about).key_of(about)
        if key in self.objects:
            raise ValueError(f"{key} is written twice by one write")
        self.objects[key] = ObjectChange(key, expected_revision, obj)


class ResourceAccess(Protocol[M_co]):
    """How domain verbs of a kind read and write its objects, with all rules of the generic verbs."""

    @property
    def info(self) -> KindInfo: ...

    @property
    def store(self) -> Store: ...

    async def read(self, namespace: str, name: str) -> M_co:
        """Linearizable read. Raises NotFound."""
        ...

    async def mutate(
        self, namespace: str, name: str, change: Callable[[M_co], None], *, uid: str = "", status: bool = False
    ) -> M_co:
        """Applies ``change`` in place to the newest object and writes it, again and again if somebody was faster.

        status: only the status is written, otherwise everything but status and server-owned metadata. An object that
        ``change`` leaves as it was is not written. Raises NotFound, Conflict (other uid), InvalidArgument, and what
        ``change`` and the hooks raise.
        """
        ...


class ResourceHooks(Generic[M]):
    """Behaviour of one kind. Every method has a default that does nothing; subclasses say what is particular."""

    def default(self, obj: M, old: M | None) -> None:
        """Fills in defaults, in place, before validation. Pure. ``old`` is None on create."""

    def validate(self, obj: M, old: M | None) -> Iterable[FieldViolation]:
        """Rules beyond those of the field options, which hold already when this is called. Pure."""
        return ()

    async def allocate(self, plan: WritePlan, obj: M, old: M | None) -> None:
        """Create and update of the main part: adds claims and other objects to the plan, may set server-assigned
        fields of ``obj``. Called again with a fresh plan and object if the commit lost a race. Raises ApiError."""

    async def release(self, plan: WritePlan, obj: M) -> None:
        """Final removal (no finalizer is left): gives back what ``allocate`` took."""

    def extra_methods(self, access: ResourceAccess[M]) -> Mapping[str, ExtraMethod]:
        """Handlers of the domain verbs in the kind's service, by method name. They raise ApiError."""
        return {}


@dataclass(frozen=True)
class ResourceKind:
    """A kind that a group serves."""

    message_class: type[Message]
    hooks: ResourceHooks[Any] = field(default_factory=ResourceHooks)

    @property
    def info(self) -> KindInfo:
        return kind_info(self.message_class)


@dataclass(frozen=True)
class ApiGroup:
    """Kinds that are served together or not at all; ``name`` is the one of the command line ("apinet")."""

    name: str
    kinds: Sequence[ResourceKind]


@dataclass(frozen=True)
class GroupContext:
    """What the factory of a group gets: the store, and the options of the server's configuration."""

    store: Store
    options: Mapping[str, object] = field(default_factory=dict)


GroupFactory = Callable[[GroupContext], ApiGroup]


class GroupRegistry:
    """API groups by name, as rooms register them under the entry point group ``ironcore.api_groups``."""

    def __init__(self, factories: Mapping[str, GroupFactory] | None = None) -> None:
        self._factories = dict(factories) if factories is not None else None

    def names(self) -> tuple[str, ...]:
        """Names of the groups that this installation has, sorted."""
        if self._factories is not None:
            return tuple(sorted(self._factories))
        return tuple(sorted(importlib.metadata.entry_points(group=GROUPS_ENTRY_POINT).names))

    def create(self, names: Iterable[str], context: GroupContext) -> list[ApiGroup]:
        """Builds the named groups. Raises InvalidArgument for a name that no room registered."""
        return [self._factory(name)(context) for name in dict.fromkeys(names)]

    def _factory(self, name: str) -> GroupFactory:
        if name not in self.names():
            raise InvalidArgument(f'no API group is called "{name}"; known are {", ".join(self.names())}')
        if self._factories is not None:
            return self._factories[name]
        (entry,) = importlib.metadata.entry_points(group=GROUPS_ENTRY_POINT, name=name)
        return cast(GroupFactory, entry.load())
