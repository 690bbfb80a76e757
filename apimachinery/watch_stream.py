"""The Watch verb: what one watcher is sent, from its first snapshot or resumed revision to its last event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ironcore.meta.v1 import meta_pb2

from apimachinery import metrics
from apimachinery.errors import Unavailable
from apimachinery.store import Store
from apimachinery.watch_cache import WatchCache
from apimachinery.watch_filter import CachedObject, Filter
from apimachinery.watch_queue import CHUNK_BYTES, ResetReason, Subscriber
from apimachinery.wire import watch_event, watch_mark

_ADDED = meta_pb2.EVENT_TYPE_ADDED
_SYNCED = meta_pb2.MARK_TYPE_SYNCED
_BOOKMARK = meta_pb2.MARK_TYPE_BOOKMARK
_RESET = meta_pb2.MARK_TYPE_RESET


@dataclass(frozen=True, slots=True)
class WatchTiming:
    """Seconds.

    bookmark:   silence after which a watcher learns how far the store has come.
    gather:     least time between two responses to one watcher, for each watcher of the kind: what happens meanwhile
                goes out together, which bounds the responses per second of all watchers. The first change after a
                pause goes out at once.
    gather_max: bound of that time, however many watchers there are.
    catch_up:   longest wait for the cache to reach a revision that the watcher has seen already.
    """

    bookmark: float = 5.0
    gather: float = 0.0002
    gather_max: float = 0.1
    catch_up: float = 5.0


DEFAULT_TIMING: Final = WatchTiming()


async def watch_responses(
    cache: WatchCache,
    store: Store,
    wanted: Filter,
    resource_version: int,
    *,
    at_least: int = 0,
    timing: WatchTiming = DEFAULT_TIMING,
) -> AsyncGenerator[bytes]:
    """Encoded ``<Kind>WatchResponse`` messages without end.

    resource_version 0 begins with a snapshot; otherwise the stream continues after that revision, or with a RESET and a
    snapshot if the changes since are no longer known. ``at_least`` is a revision that a snapshot must show, so that a
    client sees its own writes. Either way SYNCED follows, then changes; a response with changes ends with a bookmark of
    the revision that is now complete, and a response never splits a revision. Raises Unavailable if the cache stays
    behind.
    """
    await cache.wait_revision(at_least, timing.catch_up)
    resume = resource_version
    if resume > cache.revision:
        if resume > await store.current_revision():
            # Not of this store: it was restored or replaced.
            resume = -1
        else:
            await cache.wait_revision(resume, timing.catch_up)
    subscriber, unsubscribe = cache.subscribe(wanted)
    try:
        if resource_version and cache.can_resume(resume):
            sent = cache.revision
            for chunk in cache.replay(wanted, resume):
                yield chunk.data
            yield watch_mark(_SYNCED, sent)
        else:
            if resource_version:
                yield _reset(cache, ResetReason.FOREIGN if resume < 0 else ResetReason.HISTORY)
            subscriber.lost = True
            sent = 0
        async for response in _follow(cache, wanted, subscriber, sent, timing):
            yield response
    finally:
        unsubscribe()


async def _follow(
    cache: WatchCache, wanted: Filter, subscriber: Subscriber, sent: int, timing: WatchTiming
) -> AsyncGenerator[bytes]:
    loop = asyncio.get_running_loop()
    started = sent > 0
    while True:
        if subscriber.closed:
            raise Unavailable("the server stops", reason="STOPPING")
        if subscriber.lost:
            if started:
                yield _reset(cache, subscriber.reason)
            # From here to the next await nothing else runs: the snapshot and the queue meet at one revision.
            started, sent = True, cache.revision
            subscriber.clear()
            subscriber.lost = False
            objects = cache.snapshot(wanted)
            for response in _snapshot_responses(objects, sent):
                cache.encoded_bytes += len(response)
                yield response
        if subscriber.empty and not subscriber.lost and not subscriber.closed:
            subscriber.wake.clear()
            try:
                async with asyncio.timeout(timing.bookmark):
                    await subscriber.wake.wait()
            except TimeoutError:
                if subscriber.empty and not subscriber.lost and cache.revision > sent:
                    sent = cache.revision
                    yield watch_mark(_BOOKMARK, sent)
            continue
        taken = subscriber.take(CHUNK_BYTES)
        if taken:
            # With an empty queue everything up to the cache's revision has been taken.
            sent = cache.revision if subscriber.empty and not subscriber.lost else taken[-1].revision
            written = loop.time()
            yield b"".join((*(chunk.data for chunk in taken), watch_mark(_BOOKMARK, sent)))
            if subscriber.empty:
                pause = min(timing.gather_max, timing.gather * cache.subscribers)
                await asyncio.sleep(max(0.0, pause - (loop.time() - written)))


def _reset(cache: WatchCache, reason: ResetReason) -> bytes:
    metrics.CACHE_RESETS.add(1, {"kind": cache.info.resource_type, "reason": reason.value})
    return watch_mark(_RESET, cache.revision)


def _snapshot_responses(objects: Sequence[CachedObject], revision: int) -> Iterator[bytes]:
    """All objects as ADDED, and SYNCED with the last of them."""
    parts: list[bytes] = []
    size = 0
    for obj in objects:
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        event = watch_event(_ADDED, obj.data)
        parts.append(event)
        size += len(event)
    yield b"".join((*parts, watch_mark(_SYNCED, revision)))
