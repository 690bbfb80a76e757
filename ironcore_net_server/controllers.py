"""Controllers of this room, as a server process finds them by entry point."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, cast

from google.protobuf.message import Message
from ironcore.apinet.v1 import node_pb2 as apinet_node_pb2
from ironcore.metalnet.v1 import node_pb2 as metalnet_node_pb2

from apimachinery.controller import Controller, ControllerContext
from apimachinery.errors import InvalidArgument
from apimachinery.liveness import NodeLiveness
from apimachinery.scheme import kind_info

NODE_KINDS: Final[tuple[type[Message], ...]] = (apinet_node_pb2.Node, metalnet_node_pb2.Node)


def nodes(context: ControllerContext) -> list[Controller]:
    """Liveness of the nodes of each group in option `groups`. Raises InvalidArgument without a store: a lease is
    seen there and nowhere else."""
    if context.store is None:
        raise InvalidArgument('controllers "nodes" run beside an API server only')
    served = cast(Collection[str], context.options["groups"])
    return [
        NodeLiveness(context.store, context.client.kind(kind), context.informer(kind))
        for kind in NODE_KINDS
        if kind_info(kind).group in served
    ]
