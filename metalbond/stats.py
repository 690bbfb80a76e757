"""Counters of one process. Plain integers: the hot paths add to them, `metrics` reads them when it is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    updates_received: int = 0
    updates_sent: int = 0
    updates_refused: Counter[str] = field(default_factory=Counter)
    """By reason: "invalid" or the limit that was reached."""
    sessions_established: int = 0
    sessions_lost: Counter[str] = field(default_factory=Counter)
    """By reason of the reset."""
    dials_failed: int = 0
    accepts_refused: int = 0
