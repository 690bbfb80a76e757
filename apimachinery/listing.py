"""The List verb: pages that all show the store at one revision, however much is written meanwhile.

Pages come from the store, pinned to the revision of the first one. A selector is evaluated on the watch cache's decoded
object when that is the same state, so most objects are not decoded again.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from ironcore.meta.v1 import meta_pb2

from apimachinery.errors import Conflict, FieldViolation, InvalidArgument
from apimachinery.scheme import KindInfo
from apimachinery.store import RevisionCompacted, RevisionInFuture, Store, StoredValue
from apimachinery.watch_cache import WatchCache
from apimachinery.watch_filter import CachedObject, Filter
from apimachinery.wire import list_response, with_revision

DEFAULT_PAGE: Final = 500
MAX_PAGE: Final = 10_000
# Clients of gRPC take 4 MiB by default; a page ends early before it grows beyond.
PAGE_BYTES: Final = 2 << 20
# Objects read from the store at once, and in one call: a selective filter gives short pages instead of long calls.
READ: Final = 500
MAX_EXAMINED: Final = 20_000
_MAX_TOKEN: Final = 2048


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where the next page begins: after a key, at a revision, for the same selection."""

    revision: int
    after: str
    selection: int

    def encode(self) -> str:
        """Opaque text."""
        return base64.urlsafe_b64encode(json.dumps([self.revision, self.after, self.selection]).encode()).decode()


def _bad_token(message: str) -> InvalidArgument:
    return InvalidArgument("page token is not valid", violations=[FieldViolation("page_token", message)])


def decode_token(text: str, prefix: str, selection: int) -> PageToken:
    """The token of an earlier page of the same list. Raises InvalidArgument for anything else."""
    try:
        if len(text) > _MAX_TOKEN:
            raise ValueError
        revision, after, selected = json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise _bad_token("is not a token of this server") from None
    if not (type(revision) is int and 0 < revision < 1 << 63 and isinstance(after, str) and after.startswith(prefix)):
        raise _bad_token("is not a token of this kind and namespace")
    if selected != selection:
        raise _bad_token("belongs to a list with other selectors")
    return PageToken(revision, after, selection)


async def list_page(store: Store, cache: WatchCache, wanted: Filter, page_size: int, page_token: str) -> bytes:
    """One encoded ``<Kind>List``. Raises InvalidArgument, and Conflict if the token's revision is no longer kept."""
    if not 0 <= page_size <= MAX_PAGE:
        violation = FieldViolation("page_size", f"must be between 0 and {MAX_PAGE}")
        raise InvalidArgument("list request is not valid", violations=[violation])
    info = cache.info
    prefix = info.prefix(wanted.namespace)
    selection = zlib.crc32(wanted.identity)
    token = decode_token(page_token, prefix, selection) if page_token else PageToken(0, "", selection)
    wanted_items = page_size or DEFAULT_PAGE
    items: list[bytes] = []
    size = examined = 0
    revision, after, remaining = token.revision, token.after, 0
    while True:
        limit = READ if not wanted.everything else min(READ, wanted_items - len(items))
        try:
            page = await store.list(prefix, limit=limit, start_after=after, revision=revision)
        except RevisionCompacted:
            raise Conflict(
                "the revision of this list is no longer kept; begin with the first page", reason="PAGE_EXPIRED"
            ) from None
        except RevisionInFuture:
            raise _bad_token("names a revision that does not exist") from None
        revision = page.revision
        consumed = 0
        for item in page.items:
            consumed += 1
            data = _select(info, cache, wanted, item)
            if data is not None:
                items.append(data)
                size += len(data)
                if len(items) == wanted_items or size >= PAGE_BYTES:
                    break
        examined += consumed
        after = page.items[consumed - 1].key if consumed else after
        remaining = page.count - consumed
        if remaining <= 0 or len(items) == wanted_items or size >= PAGE_BYTES or examined >= MAX_EXAMINED:
            break
    metadata = meta_pb2.ListMeta(resource_version=revision, remaining=max(0, remaining))
    if remaining > 0:
        metadata.next_page_token = PageToken(revision, after, selection).encode()
    return list_response(metadata, items)


def _select(info: KindInfo, cache: WatchCache, wanted: Filter, item: StoredValue) -> bytes | None:
    """The encoded object if it is selected."""
    if wanted.everything:
        return with_revision(item.value, item.mod_revision)
    state = cache.get(item.key)
    if state is None or state.revision != item.mod_revision:
        try:
            state = CachedObject(info, item.key, item.value, item.mod_revision, item.create_revision)
        except DecodeError:
            return None
    return state.data if wanted.matches(state) else None
