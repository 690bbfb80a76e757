"""What the operator says about the tenant bridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ironcore.meta.v1 import meta_pb2

FIELD_OWNER: Final = "ironcore.dev/apinetlet"
ORIGIN_PREFIX: Final = "apinetlet.ironcore.dev/"
MANAGED_BY_ANNOTATION: Final = "common.ironcore.dev/managed-by"


@dataclass(frozen=True, slots=True)
class ApinetletConfig:
    """namespace: of everything that is made in the fabric's API."""

    namespace: str = "default"


def is_external(meta: meta_pb2.ObjectMeta) -> bool:
    """True if somebody else manages a tenant object, so that this bridge keeps away from it."""
    return MANAGED_BY_ANNOTATION in meta.annotations
