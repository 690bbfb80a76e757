"""What this bridge tells tenants: verdicts become conditions, and a status is written only if it says something new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

from google.protobuf.message import Message

from apimachinery.client import KindClient
from apimachinery.conditions import FALSE, TRUE, set_condition
from apimachinery.errors import ApiError, FailedPrecondition, InvalidArgument, ResourceExhausted
from apimachinery.scheme import metadata_of

# What the fabric answers when it understood a request and will not do it now; the tenant is told.
REFUSALS: Final = (FailedPrecondition, InvalidArgument, ResourceExhausted)

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Content of a condition: whether it holds, a CamelCase reason for programs and a message for people."""

    holds: bool
    reason: str
    message: str

    @classmethod
    def refused(cls, error: ApiError) -> Verdict:
        """What the fabric's refusal means for a tenant."""
        reason = "".join(word.capitalize() for word in error.reason.split("_"))
        return cls(False, reason or "Refused", str(error))


def judge(source: Message, status: Message, verdicts: Mapping[str, Verdict], now: datetime) -> None:
    """Complete a status in place: conditions by type as the verdicts say, and the generation it was computed from.

    Conditions without a verdict go. Transition times are those of the source's status where nothing changed. Pure.
    """
    # Every kind that is judged has these fields; the type of a message class does not say so.
    new, old = cast(Any, status), cast(Any, source).status
    generation = metadata_of(source).generation
    new.observed_generation = generation
    del new.conditions[:]
    new.conditions.extend(condition for condition in old.conditions if condition.type in verdicts)
    for condition_type, verdict in verdicts.items():
        set_condition(
            new.conditions,
            condition_type,
            TRUE if verdict.holds else FALSE,
            reason=verdict.reason,
            message=verdict.message,
            observed_generation=generation,
            now=now,
        )


async def tell(client: KindClient[M], source: M, status: Message, verdicts: Mapping[str, Verdict]) -> None:
    """Write the status of a source; no call if it says the same already. Errors as UpdateStatus."""
    judge(source, status, verdicts, datetime.now(UTC))
    if status == cast(Any, source).status:
        return
    changed = type(source)()
    changed.CopyFrom(source)
    cast(Any, changed).status.CopyFrom(status)
    await client.update_status(changed)
