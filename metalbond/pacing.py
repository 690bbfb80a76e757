"""Metering of what is written to peers of the original protocol, which break when they fall 64 KiB behind."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """Times are seconds of any one clock."""

    rate: float
    """Bytes per second."""
    burst: int
    """Bytes that may be written at once after a pause."""
    tokens: float
    """Bytes; negative after an overdraft."""
    updated: float

    @classmethod
    def full(cls, rate: float, burst: int, now: float) -> TokenBucket:
        return cls(rate, burst, burst, now)

    def refill(self, now: float) -> TokenBucket:
        tokens = min(self.burst, self.tokens + self.rate * max(0.0, now - self.updated))
        return replace(self, tokens=tokens, updated=now)

    def take(self, size: int) -> TokenBucket:
        """Overdraws if need be: what must not wait is paid for by what comes later."""
        return replace(self, tokens=self.tokens - size)

    def delay(self, size: int) -> float:
        """Seconds from `updated` until `size` bytes are there."""
        return max(0.0, (size - self.tokens) / self.rate)
