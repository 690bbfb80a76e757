"""Watch of a key prefix that never loses, repeats or reorders a change, whatever happens to the server.

:class:`WatchCursor` decides what a consumer gets to see; :func:`watch` keeps a stream attached to some member and feeds
it. There is no queue: while the consumer works, nothing is read, and HTTP/2 flow control makes etcd hold changes back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Final

from etcd3 import etcdrpc
from google.protobuf.unknown_fields import UnknownFieldSet

from apimachinery import metrics
from apimachinery.etcd.client import EtcdClient, Stream
from apimachinery.etcd.errors import AttemptError, StoreDenied, Verdict
from apimachinery.etcd.values import ROOT, StoredValue, from_kv, prefix_end, range_of

# Fields of etcd's API that are newer than the stubs: WatchCreateRequest.fragment = 8, WatchResponse.fragment = 7.
# Fragments keep one answer near 1.5 MiB, however many changes a watch has to catch up with.
_ASK_FOR_FRAGMENTS: Final = b"\x40\x01"
_FRAGMENT_FIELD: Final = 7

# A member that accepts a watch does so at once.
ATTACH_TIMEOUT: Final = 5.0
# Longest delay in seconds before the first try to attach again.
_SPREAD: Final = 0.05


@dataclass(frozen=True, slots=True)
class Change:
    """One put or deletion. Of a deletion only ``item.key`` and ``item.mod_revision`` have a meaning."""

    deleted: bool
    item: StoredValue


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Changes in order of revision. ``revision`` is the last one's, and all its changes are in this batch."""

    revision: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Nothing else changed under the prefix up to ``revision``; a later watch may start after it."""

    revision: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """Last item: changes in between are lost for ever. List again and watch after the listing's revision.

    ``revision`` is the oldest revision that can still be read, or, if the store was replaced by an older or another
    one, its current revision.
    """

    revision: int


WatchItem = WatchBatch | Progress | Compacted


@dataclass(slots=True)
class WatchCursor:
    """Position of one watch: everything up to ``revision`` has been handed out."""

    revision: int
    _fragments: list[Change] = field(default_factory=list)

    def attached(self) -> None:
        """A new stream starts: it delivers again what the old one had delivered in part."""
        self._fragments.clear()

    def advance(self, response: Any) -> WatchItem | None:
        """What the consumer gets for one `WatchResponse`; None if nothing (yet)."""
        if response.compact_revision:
            return Compacted(response.compact_revision)
        if response.created or response.canceled:
            return None
        # A member that lags behind, or one that repeats itself after a reconnect, shows revisions already handed out.
        self._fragments += [
            Change(event.type == event.DELETE, from_kv(event.kv))
            for event in response.events
            if event.kv.mod_revision > self.revision
        ]
        if _is_fragment(response):
            return None
        if self._fragments:
            changes, self._fragments = tuple(self._fragments), []
            self.revision = changes[-1].item.mod_revision
            return WatchBatch(self.revision, changes)
        if not response.events and response.header.revision > self.revision:
            self.revision = response.header.revision
            return Progress(self.revision)
        return None


async def watch(client: EtcdClient, prefix: str, *, after_revision: int) -> AsyncGenerator[WatchItem]:
    """Changes of all keys with the prefix (the empty one: of every key) after ``after_revision``, without end.

    Ends only after :class:`Compacted`. Lost streams, dead members and lost leaders are survived by attaching again
    after the last revision handed out. Raises StoreDenied if etcd's user may not read the prefix, StoreUnavailable
    when the client is closed.
    """
    cursor = WatchCursor(after_revision)
    outage = client.outage.part(f"watch of {prefix}")
    attachment = _Attachment(client, prefix, cursor)
    try:
        while True:
            try:
                await attachment.attach()
                outage.recovered(revision=cursor.revision)
                while True:
                    item = await attachment.receive()
                    if isinstance(item, Compacted):
                        metrics.STORE_WATCH_COMPACTIONS.add(1, {"prefix": prefix})
                    if item is not None:
                        yield item
                    if isinstance(item, Compacted):
                        return
            except AttemptError as failure:
                if failure.verdict is Verdict.REJECTED:
                    raise failure.error from failure
                metrics.STORE_WATCH_RESTARTS.add(1, {"prefix": prefix})
                outage.lost(failure, revision=cursor.revision)
                # All watches of a process lose their streams at the same moment.
                await asyncio.sleep(random.uniform(0, _SPREAD))
            finally:
                attachment.detach()
    finally:
        outage.close()


# Answered by the leader's word (linearizable), so its header shows at least every revision that anyone has seen.
_REVISION_REQUEST: Final = etcdrpc.RangeRequest(key=ROOT.encode(), range_end=prefix_end(ROOT), limit=1, keys_only=True)


class _Attachment:
    """The stream that a watch has at the moment."""

    def __init__(self, client: EtcdClient, prefix: str, cursor: WatchCursor) -> None:
        self._client = client
        self._range = range_of(prefix)
        self._cursor = cursor
        self._cluster_id = 0
        self._stream: Stream | None = None
        self._first: WatchItem | None = None

    async def attach(self) -> None:
        """Tries until a member has accepted the watch. Raises AttemptError only if that is hopeless."""
        async for attempt in self._client.retrying(stop_after=None):
            with attempt:
                self._first = await self._attach_once()

    async def receive(self) -> WatchItem | None:
        """What comes next, if it is of interest to the consumer."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        assert self._stream is not None
        response = await self._stream.receive()
        if response.canceled and not response.compact_revision:
            raise self._canceled(self._stream, response.cancel_reason)
        return self._cursor.advance(response)

    def detach(self) -> None:
        """Ends the stream."""
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    async def _attach_once(self) -> WatchItem | None:
        header = (await self._client.attempt(lambda stubs: stubs.kv.Range, _REVISION_REQUEST)).header
        if header.revision < self._cursor.revision or self._cluster_id not in (0, header.cluster_id):
            # Restored from a backup or replaced: a watch after our revision would wait in silence.
            return Compacted(header.revision)
        self._cluster_id = header.cluster_id
        self._cursor.attached()
        self.detach()
        stream = self._stream = await self._client.open_stream(lambda stubs: stubs.watch.Watch)
        try:
            async with asyncio.timeout(ATTACH_TIMEOUT):
                await stream.send(self._create_request())
                response = await stream.receive()
        except TimeoutError:
            raise stream.abandon("no answer to a new watch") from None
        if response.canceled and not response.compact_revision:
            raise self._canceled(stream, response.cancel_reason)
        return self._cursor.advance(response)

    def _create_request(self) -> Any:
        key, range_end = self._range
        create = etcdrpc.WatchCreateRequest(
            key=key, range_end=range_end, start_revision=self._cursor.revision + 1, progress_notify=True
        )
        create.MergeFromString(_ASK_FOR_FRAGMENTS)
        return etcdrpc.WatchRequest(create_request=create)

    def _canceled(self, stream: Stream, reason: str) -> AttemptError:
        if "permission denied" not in reason:
            return stream.abandon(f"watch canceled: {reason or 'no reason given'}")
        # An expired token gets this answer. A user without the right does not come here: the read before is refused.
        self._client.forget_token(stream.token)
        return AttemptError(Verdict.TOKEN_REJECTED, StoreDenied(f"watch canceled: {reason}"))


def _is_fragment(response: Any) -> bool:
    unknown = UnknownFieldSet(response)
    return any(unknown[i].field_number == _FRAGMENT_FIELD and unknown[i].data for i in range(len(unknown)))
