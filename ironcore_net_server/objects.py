"""Objects of other kinds as a write's hooks read them: straight from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from apimachinery.errors import FieldViolation, InvalidArgument
from apimachinery.scheme import kind_info, metadata_of
from apimachinery.store import Store
from apimachinery.validation import check_rules, normalize

M = TypeVar("M", bound=Message)


async def read_object(store: Store, message_class: type[M], namespace: str, name: str) -> M | None:
    """The object as of now, None if there is none."""
    stored = await store.get(kind_info(message_class).key(namespace, name))
    if stored is None:
        return None
    obj = message_class.FromString(stored.value)
    metadata_of(obj).resource_version = stored.mod_revision
    return obj


def check_request(request: Message, *rules: Callable[[], Iterator[FieldViolation]]) -> None:
    """Checks the field rules of a domain verb's request, then further rules; canonical forms are written into it.

    Raises InvalidArgument.
    """
    normalize(request)
    violations = [*check_rules(request), *(violation for rule in rules for violation in rule())]
    if violations:
        raise InvalidArgument(f"{request.DESCRIPTOR.name} is invalid", violations=violations)
