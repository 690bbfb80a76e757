"""Objects of other kinds as a write's hooks read them: straight from the store."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from apimachinery.scheme import kind_info, metadata_of
from apimachinery.store import Store

M = TypeVar("M", bound=Message)


async def read_object(store: Store, message_class: type[M], namespace: str, name: str) -> M | None:
    """The object as of now, None if there is none."""
    stored = await store.get(kind_info(message_class).key(namespace, name))
    if stored is None:
        return None
    obj = message_class.FromString(stored.value)
    metadata_of(obj).resource_version = stored.mod_revision
    return obj
