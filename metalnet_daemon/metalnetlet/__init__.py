"""Mirrors one partition: nodes up to apinet, networks and interfaces down from it, their state up again."""

from __future__ import annotations

from apimachinery.controller import Controller, ControllerContext

from .config import PartitionConfig
from .interfaces import InterfaceController
from .networks import NetworkController
from .nodes import NodeController

__all__ = ["PartitionConfig", "build", "controllers"]


def build(config: PartitionConfig, apinet: ControllerContext, metalnet: ControllerContext) -> list[Controller]:
    """The controllers of one partition. The two contexts may be the same if one server serves both groups."""
    return [
        NodeController(config, apinet, metalnet).controller,
        NetworkController(config, apinet, metalnet).controller,
        InterfaceController(config, apinet, metalnet).controller,
    ]


def controllers(context: ControllerContext) -> list[Controller]:
    """Entry point for a server that serves both groups; options: partition. Raises ValueError without one."""
    return build(PartitionConfig(str(context.options.get("partition", ""))), context, context)
