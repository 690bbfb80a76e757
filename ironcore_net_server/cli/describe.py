"""One object for people: metadata, owners, finalizers and conditions first, then spec and status."""

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.documents import Plain, dump_yaml
from apimachinery.manifest import to_plain
from apimachinery.scheme import kind_info, metadata_of
from apimachinery.selectors import enum_texts
from ironcore_net_server.cli.table import NOTHING, format_age, plain_lines

_INDENT = "  "


def describe(obj: Message, now: datetime) -> str:
    """Text with a newline at its end."""
    info, meta, document = kind_info(obj), metadata_of(obj), to_plain(obj)
    facts = [("Name", meta.name)]
    if info.namespaced:
        facts.append(("Namespace", meta.namespace))
    facts += [
        ("Kind", f"{info.kind} ({info.api_version})"),
        ("UID", meta.uid),
        ("Created", _moment(meta, "creation_timestamp", now)),
        ("Generation", f"{meta.generation} (resource version {meta.resource_version})"),
    ]
    if meta.HasField("deletion_timestamp"):
        facts.append(("Deleting", f"{_moment(meta, 'deletion_timestamp', now)}; {_waits_for(meta)}"))
    facts.append(("Finalizers", ", ".join(meta.finalizers) or NOTHING))
    lines = [f"{name + ':':<13}{value}" for name, value in facts]
    lines += _pairs("Labels", dict(meta.labels))
    lines += _pairs("Annotations", dict(meta.annotations))
    lines += _owners(meta.owner_references)
    lines += _part("Spec", document.get("spec"))
    status = document.get("status")
    if isinstance(status, dict):
        status = {key: value for key, value in status.items() if key != "conditions"}
    lines += _part("Status", status)
    lines += _conditions(_conditions_of(obj), meta.generation, now)
    return "\n".join(lines) + "\n"


def _moment(meta: meta_pb2.ObjectMeta, field: str, now: datetime) -> str:
    moment: datetime = getattr(meta, field).ToDatetime(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ} ({format_age((now - moment).total_seconds())} ago)"


def _waits_for(meta: meta_pb2.ObjectMeta) -> str:
    return f"waits for {', '.join(meta.finalizers)}" if meta.finalizers else "nothing holds it"


def _pairs(title: str, pairs: dict[str, str]) -> list[str]:
    if not pairs:
        return [f"{title + ':':<13}{NOTHING}"]
    return [f"{title}:", *(f"{_INDENT}{key}: {value}" for key, value in sorted(pairs.items()))]


def _owners(owners: Sequence[meta_pb2.OwnerReference]) -> list[str]:
    if not owners:
        return [f"{'Owners:':<13}{NOTHING}"]
    lines = ["Owners:"]
    for owner in owners:
        marks = [
            name
            for name, on in (("controller", owner.controller), ("blocks deletion", owner.block_owner_deletion))
            if on
        ]
        suffix = f" ({', '.join(marks)})" if marks else ""
        lines.append(f"{_INDENT}{owner.kind} {owner.name} {owner.uid}{suffix}")
    return lines


def _part(title: str, part: Plain) -> list[str]:
    if not part:
        return [f"{title + ':':<13}{NOTHING}"]
    return [f"{title}:", *(_INDENT + line for line in dump_yaml([part]).splitlines())]


def _conditions_of(obj: Message) -> Sequence[meta_pb2.Condition]:
    status = getattr(obj, "status", None)
    return getattr(status, "conditions", None) or ()


def _conditions(conditions: Sequence[meta_pb2.Condition], generation: int, now: datetime) -> list[str]:
    if not conditions:
        return [f"{'Conditions:':<13}{NOTHING}"]
    texts = enum_texts(meta_pb2.ConditionStatus.DESCRIPTOR)
    rows = []
    for condition in conditions:
        since = NOTHING
        if condition.HasField("last_transition_time"):
            since = format_age((now - condition.last_transition_time.ToDatetime(UTC)).total_seconds())
        outdated = " (of an older generation)" if 0 < condition.observed_generation < generation else ""
        rows.append(
            (condition.type, texts[condition.status] + outdated, since, condition.reason or NOTHING, condition.message)
        )
    table = plain_lines(("TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"), rows)
    return ["Conditions:", *(_INDENT + line for line in table)]
