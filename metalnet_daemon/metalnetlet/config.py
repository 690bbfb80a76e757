"""What the operator says about a partition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

FIELD_OWNER = "metalnetlet.apinet.ironcore.dev/controller-manager"

_PARTITION = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class PartitionConfig:
    """partition: a DNS label, so that the node's name begins after its first dot. namespace: of the metalnet objects.

    node_labels: put on the apinet nodes. peering: False keeps networks apart. heartbeat_ttl: seconds after which an
    apinet node counts as lost when nothing is forwarded. Raises ValueError.
    """

    partition: str
    namespace: str = "default"
    node_labels: Mapping[str, str] = field(default_factory=dict)
    peering: bool = True
    heartbeat_ttl: int = 15

    def __post_init__(self) -> None:
        if not _PARTITION.fullmatch(self.partition):
            raise ValueError(f"partition {self.partition!r} is not a DNS label (1 to 63 of a-z, 0-9, -)")
