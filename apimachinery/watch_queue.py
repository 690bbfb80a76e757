"""Encoded changes on their way to one watcher: whole revisions in bounded queues. Pure but for the wake-up."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

# Bytes of events after which a response is complete; it always ends with a whole revision.
CHUNK_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Chunk:
    """Encoded ``events`` entries of whole revisions, the last of which is ``revision``."""

    data: bytes
    revision: int


def chunks(events: Iterable[tuple[int, bytes]]) -> Iterator[Chunk]:
    """Joins (revision, encoded event), ordered by revision, into chunks that never split a revision."""
    parts: list[bytes] = []
    size = last = 0
    for revision, data in events:
        if size >= CHUNK_BYTES and revision != last:
            yield Chunk(b"".join(parts), last)
            parts, size = [], 0
        parts.append(data)
        size += len(data)
        last = revision
    if parts:
        yield Chunk(b"".join(parts), last)


class ResetReason(enum.StrEnum):
    """Why a watcher has to start over with a snapshot."""

    SLOW = "slow"
    """It left too much unread."""
    RELOADED = "reloaded"
    """The cache was loaded again: etcd compacted changes away, or a defect."""
    HISTORY = "history"
    """It resumes at a revision that is too old."""
    FOREIGN = "foreign"
    """It resumes at a revision that the store does not have."""


class Subscriber:
    """The queue of one watcher. ``lost`` tells that something was dropped, and ``reason`` why: a snapshot is needed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: deque[Chunk] = deque()
        self._bytes = 0
        self.lost = False
        self.reason = ResetReason.SLOW
        self.closed = False
        self.wake = asyncio.Event()

    def offer(self, chunk: Chunk) -> None:
        """Queues a chunk, or drops everything if the watcher is too slow."""
        if self.lost:
            return
        if self._bytes + len(chunk.data) > self._limit and self._chunks:
            self.cut(ResetReason.SLOW)
            return
        self._chunks.append(chunk)
        self._bytes += len(chunk.data)
        self.wake.set()

    def cut(self, reason: ResetReason) -> None:
        """Drops what is queued; the watcher continues with a reset."""
        self.lost = True
        self.reason = reason
        self.clear()
        self.wake.set()

    def close(self) -> None:
        """Ends the watch: the server stops."""
        self.closed = True
        self.wake.set()

    def take(self, limit: int) -> list[Chunk]:
        """The next chunks, at least one if there is any, together not much more than ``limit`` bytes."""
        taken: list[Chunk] = []
        size = 0
        while self._chunks and (not taken or size + len(self._chunks[0].data) <= limit):
            chunk = self._chunks.popleft()
            size += len(chunk.data)
            taken.append(chunk)
        self._bytes -= size
        return taken

    def clear(self) -> None:
        """Empties the queue."""
        self._chunks.clear()
        self._bytes = 0

    @property
    def empty(self) -> bool:
        return not self._chunks
