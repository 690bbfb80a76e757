"""What the operator says about the tenant bridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from apimachinery.finalizers import has_finalizer, is_deleting
from apimachinery.scheme import metadata_of

FIELD_OWNER: Final = "ironcore.dev/apinetlet"
ORIGIN_PREFIX: Final = "apinetlet.ironcore.dev/"
MANAGED_BY_ANNOTATION: Final = "common.ironcore.dev/managed-by"


@dataclass(frozen=True, slots=True)
class ApinetletConfig:
    """namespace: of everything that is made in the fabric's API."""

    namespace: str = "default"


def is_foreign(obj: Message, finalizer: str) -> bool:
    """True if somebody else manages a tenant object, so that this bridge keeps away from it.

    One that this bridge had begun to mirror is not held up when it goes.
    """
    return MANAGED_BY_ANNOTATION in metadata_of(obj).annotations and not (
        is_deleting(obj) and has_finalizer(obj, finalizer)
    )
