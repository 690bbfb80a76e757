"""Node of the fabric: a name, labels, and whether its heartbeats arrive."""

from __future__ import annotations

from ironcore.apinet.v1 import node_pb2

from apimachinery.liveness import HeartbeatHooks


class NodeHooks(HeartbeatHooks[node_pb2.Node]):
    """Lives by heartbeats; everything else is in the field options."""
