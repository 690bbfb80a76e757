"""DaemonSet: one Instance per matching node."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.apinet.v1 import daemon_set_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks
from ironcore_net_server.apinet.instance import check_template
from ironcore_net_server.rules import check_selects_template


class DaemonSetHooks(ResourceHooks[daemon_set_pb2.DaemonSet]):
    """Its selector selects what its template makes."""

    def validate(self, obj: daemon_set_pb2.DaemonSet, old: daemon_set_pb2.DaemonSet | None) -> Iterable[FieldViolation]:
        yield from check_selects_template(obj.spec.selector, obj.spec.template.metadata, "spec.selector")
        yield from check_template(obj.spec.template, "spec.template")
