"""What a kind adds to the generic resource server, and how rooms register their kinds.

A write runs ``default`` → generic rules → ``validate`` → ``allocate`` (or ``release``), then everything that was
collected in the :class:`~apimachinery.plan.WritePlan` is committed together with the object as one transaction.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from apimachinery.errors import FieldViolation, InvalidArgument
from apimachinery.plan import WritePlan
from apimachinery.scheme import KindInfo, kind_info
from apimachinery.store import Store

__all__ = [
    "ApiGroup",
    "ExtraMethod",
    "GroupContext",
    "GroupFactory",
    "GroupRegistry",
    "ResourceAccess",
    "ResourceHooks",
    "ResourceKind",
    "WritePlan",
]

GROUPS_ENTRY_POINT: Final = "ironcore.api_groups"

M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)

# Answers one domain verb: (request, context) -> response.
ExtraMethod = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Message]]


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
