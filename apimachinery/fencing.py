"""Fencing of what a leader writes through the API.

Being leader is a belief that can be outdated: a paused process wakes up and goes on writing. So the controllers of a
term run with its election key in a context variable, a fenced client sends that with every write, and the server lets
the transaction of the write fail unless the key still is the one of that term.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Self

from apimachinery.errors import FieldViolation, InvalidArgument

# Store prefix of the keys that leaders hold.
ELECTIONS: Final = "/elections/"
# Name of the gRPC metadata.
HEADER: Final = "ironcore-fence"
_MAX_LENGTH: Final = 512


@dataclass(frozen=True, slots=True)
class Fence:
    """A term of leadership: its election key, and the revision at which this leader created it."""

    key: str
    revision: int

    def __str__(self) -> str:
        return f"{self.key}@{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `str` made. Raises InvalidArgument, also for other keys: a fence must not tell what exists."""
        key, _, revision = text.rpartition("@")
        numeric = revision.isascii() and revision.isdecimal() and 0 < len(revision) < 19 and int(revision) > 0
        if not (key.startswith(ELECTIONS) and numeric and len(text) <= _MAX_LENGTH):
            violation = FieldViolation(HEADER, "must be /elections/<name>@<revision>")
            raise InvalidArgument("request metadata is not valid", violations=[violation])
        return cls(key, int(revision))


current_fence: ContextVar[Fence | None] = ContextVar("current_fence", default=None)
"""On a client the term that the running task belongs to, on a server what the running call was sent with."""
