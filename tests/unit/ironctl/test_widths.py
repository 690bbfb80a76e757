"""Default tables with usual values fit a terminal of 80 columns, with a second family or namespaces one of 100."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ironcore.meta.v1 import meta_pb2, options_pb2

from apimachinery.scheme import KindInfo, Scheme, metadata_of, resolve_path
from ironcore_net_server.cli.table import columns_of, plain_lines

NOW = datetime(2026, 5, 6, tzinfo=UTC)
UID = "8a5c554d-47dc-4a2d-9110-648ad74a3ef8"
INFOS = [
    info
    for group in ("networking", "ipam", "apinet", "metalnet")
    for info in Scheme.from_packages(f"ironcore.{group}.v1")
]
# Objects of the fabric are named by the uid of what they stand for; these are not.
NAMES = {
    "apinet/Node": "az1.host-12",
    "apinet/IPAddress": "203.0.113.10",
    "apinet/NetworkID": "4711",
    # Made for a claimer: its name and a random end.
    "apinet/IP": f"{UID}-4f1b2",
    "apinet/NATGatewayAutoscaler": "autoscaler",
    "metalnet/Node": "host-12",
}
VALUES = {
    "spec.machine_ref.name": "webapp-1",
    "spec.node_name": "host-12",
    "spec.node_ref.name": "az1.host-12",
    "spec.id": "4711",
    "spec.load_balancer_targets": "203.0.113.11/32",
    "spec.peered_ids": "4712",
    "spec.claim_ref.resource": "networkinterfaces",
    "spec.claim_ref.namespace": "default",
    "spec.parent_ref.name": "webapp",
    "spec.prefix_ref.name": "webapp",
    "spec.provider_id": f"ironcore-net://default/{UID}/4711/{UID}",
    "spec.prefix": "10.0.0.0/24",
    "status.prefix": "10.0.0.0/24",
    "spec.prefixes": "10.0.1.0/24",
    "status.prefixes": "10.0.1.0/24",
    "status.underlay_ip": "fd00:4711::d000:1:2",
    "status.tap_device.name": "dtap12",
    "status.dataplane_version": "0.1.0",
}


def name_of(info: KindInfo) -> str:
    return NAMES.get(f"{info.group}/{info.kind}", UID if info.group in ("apinet", "metalnet") else "webapp-eth0")


def texts_of(info: KindInfo, path: str, *, families: int) -> list[str]:
    """What usually stands in the strings at a path."""
    last = path.rpartition(".")[2]
    if path in VALUES:
        return [VALUES[path]]
    if "ip" in last:  # ip, ips, virtual_ip, public_ips.ip
        public = last == "ip" or last.startswith("virtual")
        return (["203.0.113.10"] if public else ["10.0.0.12", "fd00:10::c"])[:families]
    if path.endswith("_ref.name"):
        return [UID if info.group in ("apinet", "metalnet") else "webapp"]
    raise AssertionError(f"no usual value for {path}")


def fill(parent: Message, fields: list[FieldDescriptor], texts: list[str]) -> None:
    """Sets the field at the end of a path: strings to the texts, enums to their longest word, numbers to 100."""
    field, *rest = fields
    if field.message_type is not None and rest:
        for text in texts if field.is_repeated else [None]:
            child = getattr(parent, field.name)
            fill(child.add() if field.is_repeated else child, rest, texts if text is None else [text])
        return
    value: Any
    if field.message_type is meta_pb2.LabelSelector.DESCRIPTOR:
        getattr(parent, field.name).match_labels["app"] = "webapp"
    elif field.message_type is Timestamp.DESCRIPTOR:
        getattr(parent, field.name).FromDatetime(NOW)
    elif field.enum_type is not None:
        value = max(field.enum_type.values, key=lambda value: len(value.GetOptions().Extensions[options_pb2.text]))
        set_scalars(parent, field, [value.number])
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        set_scalars(parent, field, texts)
    else:
        set_scalars(parent, field, [100])


def set_scalars(parent: Message, field: FieldDescriptor, values: list[Any]) -> None:
    if field.is_repeated:
        getattr(parent, field.name).extend(values)
    else:
        setattr(parent, field.name, values[0])


def usual(info: KindInfo, *, families: int, wide: bool) -> Message:
    obj = info.message_class()
    meta = metadata_of(obj)
    meta.name = name_of(info)
    meta.namespace = "default"
    meta.creation_timestamp.FromDatetime(NOW - timedelta(days=12))
    for column in info.columns:
        if wide or not column.wide:
            fields = resolve_path(info.descriptor, column.path)
            strings = fields[-1].enum_type is None and fields[-1].message_type is None
            strings = strings and fields[-1].cpp_type == FieldDescriptor.CPPTYPE_STRING
            fill(obj, list(fields), texts_of(info, column.path, families=families) if strings else [""])
    return obj


def table(info: KindInfo, *, families: int, namespace: bool = False, wide: bool = False) -> list[str]:
    obj = usual(info, families=families, wide=wide)
    columns = columns_of(info, namespace=namespace, wide=wide, now=NOW)
    return plain_lines([column.heading for column in columns], [[column.cell(obj) for column in columns]])


@pytest.mark.parametrize("info", INFOS, ids=lambda info: f"{info.group}/{info.kind}")
def test_default_tables_fit(info: KindInfo) -> None:
    for lines, width in (
        (table(info, families=1), 80),
        (table(info, families=2), 100),
        (table(info, families=1, namespace=True), 100),
    ):
        assert all(len(line) <= width for line in lines), "\n".join(lines)
        assert "<none>" not in lines[1], "\n".join(lines)


@pytest.mark.parametrize("info", INFOS, ids=lambda info: f"{info.group}/{info.kind}")
def test_wide_tables_show_every_column(info: KindInfo) -> None:
    heading, row = table(info, families=2, wide=True)
    assert heading.split() == ["NAME", *(column.name.upper() for column in info.columns), "AGE"]
    assert "<none>" not in row
