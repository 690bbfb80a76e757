"""Judges whether what a watcher saw is a faithful account of what was written. Pure; knows no store and no API.

A test records the writes that were confirmed and what its watcher received, in order, and asks :func:`violations`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

# Value of a key after a write; None: the key was deleted.
Value = bytes | None


@dataclass(frozen=True, slots=True)
class Write:
    """A confirmed change. ``revision`` 0: the writer does not know whether it happened."""

    revision: int
    key: str
    value: Value


@dataclass(frozen=True, slots=True)
class Seen:
    """The watcher got a change."""

    revision: int
    key: str
    value: Value


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The watcher got the complete state at a revision: per key the revision of its last change, and its value."""

    revision: int
    state: Mapping[str, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Bookmark:
    """The watcher was told that nothing else happened up to the revision."""

    revision: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The watcher was told that it missed changes; a snapshot has to follow."""


async def everybody_confirmed(log: Sequence[Write], since: int, writers: Mapping[str, int]) -> None:
    """Returns when each writer has a confirmed write after entry ``since`` of the log, or has made all of its writes.

    Until then a writer may still be finding out, from the store's history, which of its unanswered writes happened.
    writers: how many writes there are to come in all, by the beginning of their keys.
    """

    def waiting() -> bool:
        late = {writer for writer in writers if not any(write.key.startswith(writer) for write in log[since:])}
        return any(sum(write.key.startswith(writer) for write in log) < writers[writer] for writer in late)

    while waiting():  # noqa: ASYNC110 - the writers know nothing of their observer
        await asyncio.sleep(0.01)


Observation = Seen | Snapshot | Bookmark | Reset


@dataclass
class _Account:
    """What has been seen so far, against the truth."""

    truth: Mapping[tuple[int, str], Value]
    uncertain: frozenset[tuple[str, Value]]
    uncertain_keys: frozenset[str]
    # Nothing before this revision may come any more.
    position: int
    problems: list[str] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    seen: set[tuple[int, str]] = field(default_factory=set)
    # Ranges of revisions, ends included, that a snapshot stands for.
    summarized: list[tuple[int, int]] = field(default_factory=list)

    def take_change(self, change: Seen) -> None:
        where = f"{change.key} at {change.revision}"
        if change.revision < self.position:
            self.problems.append(f"reordered: {where} comes when at least {self.position} is due")
        if change.revision <= self.last.get(change.key, 0):
            what = "repeated" if (change.revision, change.key) in self.seen else "reordered or stale"
            self.problems.append(f"{what}: {where} after {self.last[change.key]}")
        known = (change.revision, change.key) in self.truth
        if known and self.truth[change.revision, change.key] != change.value:
            self.problems.append(f"wrong value: {where}")
        if not known and (change.key, change.value) not in self.uncertain:
            self.problems.append(f"never written: {where}")
        self.seen.add((change.revision, change.key))
        self.last[change.key] = max(change.revision, self.last.get(change.key, 0))
        self.position = max(self.position, change.revision)

    def take_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.revision < self.position - 1:
            self.problems.append(f"snapshot of {snapshot.revision} goes back behind {self.position}")
        expected = state_at(self.truth, snapshot.revision)
        for key in expected.keys() | snapshot.state.keys():
            if key not in self.uncertain_keys and expected.get(key) != snapshot.state.get(key):
                self.problems.append(f"snapshot of {snapshot.revision} is wrong about {key}")
        self.summarized.append((self.position, snapshot.revision))
        # What was deleted in between is known to be gone as of the snapshot.
        self.last = {key: revision for key, (revision, _) in snapshot.state.items()}
        self.position = max(self.position, snapshot.revision + 1)

    def take_bookmark(self, bookmark: Bookmark) -> None:
        self.position = max(self.position, bookmark.revision + 1)

    def lost(self, start: int) -> list[str]:
        """Writes that neither an event nor a snapshot told about."""
        return [
            f"lost: {key} at {revision}"
            for revision, key in sorted(self.truth)
            if revision > start
            and (revision, key) not in self.seen
            and not any(low <= revision <= high for low, high in self.summarized)
        ]


def state_at(truth: Mapping[tuple[int, str], Value], revision: int) -> dict[str, tuple[int, bytes]]:
    """Keys that exist after all writes up to the revision: revision of the last change, and value."""
    state: dict[str, tuple[int, bytes]] = {}
    for (written, key), value in sorted(truth.items(), key=lambda item: item[0]):
        if written > revision:
            break
        if value is None:
            state.pop(key, None)
        else:
            state[key] = (written, value)
    return state


def violations(
    writes: Iterable[Write], observed: Sequence[Observation], *, start_revision: int = 0, max_resets: int = 1
) -> list[str]:
    """Everything that is wrong with the account, empty if nothing is.

    The watcher began after ``start_revision``. Demanded: no change lost, none twice, revisions never go back, every
    value as written, every snapshot right, at most ``max_resets`` resets and a snapshot directly after each.
    """
    writes = list(writes)
    uncertain = frozenset((write.key, write.value) for write in writes if not write.revision)
    account = _Account(
        truth={(write.revision, write.key): write.value for write in writes if write.revision},
        uncertain=uncertain,
        uncertain_keys=frozenset(key for key, _ in uncertain),
        position=start_revision + 1,
    )
    resets, after_reset = 0, False
    for observation in observed:
        if after_reset and not isinstance(observation, Snapshot):
            account.problems.append("no snapshot directly after a reset")
        after_reset = isinstance(observation, Reset)
        match observation:
            case Seen():
                account.take_change(observation)
            case Snapshot():
                account.take_snapshot(observation)
            case Bookmark():
                account.take_bookmark(observation)
            case Reset():
                resets += 1
    if after_reset:
        account.problems.append("no snapshot after the last reset")
    if resets > max_resets:
        account.problems.append(f"{resets} resets, at most {max_resets} allowed")
    return account.problems + account.lost(start_revision)
