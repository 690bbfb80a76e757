"""Runs a plan: stages in order, independent operations of a stage side by side, bounded."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Protocol

from metalnet_daemon.plan.types import CreateInterface, CreatePrefix, Operation, Stage

from .engine import EngineLostError, EngineRefusedError

# Enough to hide the round trip; the engine serializes calls anyway.
CONCURRENCY = 32


class OperationTarget(Protocol):
    """What executes one operation; `EngineClient` does."""

    async def apply(self, operation: Operation) -> IPv6Address | None: ...


@dataclass(slots=True)
class Outcome:
    """What became of a plan. `done` has the underlay address of what was created; `lost` is set if the engine went
    away, everything that is neither done nor failed was not tried then (or its fate is unknown)."""

    done: list[tuple[Operation, IPv6Address | None]] = field(default_factory=list)
    failed: list[tuple[Operation, EngineRefusedError]] = field(default_factory=list)
    lost: EngineLostError | None = None


async def execute(
    engine: OperationTarget, operations: Sequence[Operation], *, concurrency: int = CONCURRENCY
) -> Outcome:
    """Run the operations of a plan. Never raises for what the engine answers."""
    outcome = Outcome()
    for stage, group in itertools.groupby(operations, key=lambda operation: operation.stage):
        chains = _chains(_without_failed_interfaces(group, outcome))
        # Interfaces are few and touch devices: one at a time keeps the engine's log readable.
        workers = 1 if stage is Stage.CREATE_INTERFACE else concurrency
        await asyncio.gather(*(_work(engine, chains, outcome) for _ in range(min(workers, len(chains)))))
        if outcome.lost is not None:
            break
    return outcome


def _without_failed_interfaces(operations: Iterable[Operation], outcome: Outcome) -> Iterable[Operation]:
    failed = {operation.key for operation, _ in outcome.failed if isinstance(operation, CreateInterface)}
    for operation in operations:
        if not (isinstance(operation, CreatePrefix) and operation.key.interface_id in failed):
            yield operation


def _chains(operations: Iterable[Operation]) -> deque[list[Operation]]:
    """Operations of one key stay together and in order."""
    chains: dict[object, list[Operation]] = {}
    for operation in operations:
        chains.setdefault(operation.key, []).append(operation)
    return deque(chains.values())


async def _work(engine: OperationTarget, chains: deque[list[Operation]], outcome: Outcome) -> None:
    while chains and outcome.lost is None:
        for operation in chains.popleft():
            try:
                outcome.done.append((operation, await engine.apply(operation)))
            except EngineRefusedError as error:
                outcome.failed.append((operation, error))
                break
            except EngineLostError as error:
                outcome.lost = error
                return
