"""Controllers of this room, as a server process finds them by entry point."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, cast

from google.protobuf.message import Message
from ironcore.apinet.v1 import node_pb2 as apinet_node_pb2
from ironcore.metalnet.v1 import node_pb2 as metalnet_node_pb2

from apimachinery.controller import Controller, ControllerContext
from apimachinery.errors import InvalidArgument
from apimachinery.gc import GarbageCollector
from apimachinery.liveness import NodeLiveness
from apimachinery.scheme import Scheme, kind_info

NODE_KINDS: Final[tuple[type[Message], ...]] = (apinet_node_pb2.Node, metalnet_node_pb2.Node)


def nodes(context: ControllerContext) -> list[Controller]:
    """Liveness of the nodes of each group in option `groups`. Raises InvalidArgument without a store: a lease is
    seen there and nowhere else."""
    if context.store is None:
        raise InvalidArgument('controllers "nodes" run beside an API server only')
    return [
        NodeLiveness(context.store, context.client.kind(kind), context.informer(kind))
        for kind in NODE_KINDS
        if kind_info(kind).group in _groups(context)
    ]


def garbage(context: ControllerContext) -> list[Controller]:
    """Deletes what belongs to owners that are gone, among all kinds of each group in option `groups`."""
    scheme = Scheme.from_packages(*(f"ironcore.{group}.v1" for group in _groups(context)))
    return [GarbageCollector(context, scheme).controller]


def _groups(context: ControllerContext) -> Collection[str]:
    return cast(Collection[str], context.options["groups"])
