"""Columns of every kind lead to something printable."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ironcore.apinet.v1 import node_pb2
from ironcore.meta.v1 import meta_pb2
from ironcore.metalnet.v1 import load_balancer_pb2, network_interface_pb2, network_pb2
from ironcore.metalnet.v1 import node_pb2 as metalnet_node_pb2
from ironcore.networking.v1 import network_policy_pb2

from apimachinery.scheme import KindInfo, kind_info, resolve_path
from apimachinery.selectors import field_reader
from tests.support.kinds import KINDS

METALNET = (network_pb2.Network, network_interface_pb2.NetworkInterface, load_balancer_pb2.LoadBalancer)
INFOS = [kind_info(message) for message in (*KINDS, *METALNET, metalnet_node_pb2.Node)]


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.resource_type)
def test_columns_and_selectable_fields_end_in_values(info: KindInfo) -> None:
    for column in info.columns:
        last = resolve_path(info.descriptor, column.path)[-1].message_type
        assert last in (None, meta_pb2.LabelSelector.DESCRIPTOR, Timestamp.DESCRIPTOR)
    for path in info.indexed_fields:
        assert resolve_path(info.descriptor, path)[-1].message_type is None


def test_a_selector_is_printed_as_on_the_command_line() -> None:
    policy = network_policy_pb2.NetworkPolicy()
    policy.spec.network_interface_selector.match_labels["role"] = "db"
    assert field_reader(policy.DESCRIPTOR, "spec.network_interface_selector")(policy) == ("role=db",)


def test_a_node_shows_its_condition() -> None:
    node = node_pb2.Node()
    node.status.conditions.add(type="Ready", status=meta_pb2.CONDITION_STATUS_FALSE)
    assert field_reader(node.DESCRIPTOR, "status.conditions.status")(node) == ("False",)
    assert field_reader(node.DESCRIPTOR, "status.last_heartbeat")(node) == ("",)
    node.status.last_heartbeat.FromSeconds(1_767_323_045)
    assert field_reader(node.DESCRIPTOR, "status.last_heartbeat")(node) == ("2026-01-02T03:04:05Z",)
