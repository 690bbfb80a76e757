"""NATTable: sections of one address do not share a port."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.apinet.v1 import nat_table_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks
from ironcore_net_server.rules import overlaps


class NATTableHooks(ResourceHooks[nat_table_pb2.NATTable]):
    """No (public address, port) belongs to two interfaces."""

    def validate(self, obj: nat_table_pb2.NATTable, old: nat_table_pb2.NATTable | None) -> Iterable[FieldViolation]:
        seen: set[str] = set()
        for ip_index, ip in enumerate(obj.ips):
            at = f"ips[{ip_index}]"
            if ip.ip in seen:
                yield FieldViolation(f"{at}.ip", "appears twice; it must be unique in the list")
            seen.add(ip.ip)
            for index, section in enumerate(ip.sections):
                if section.end_port < section.port:
                    yield FieldViolation(
                        f"{at}.sections[{index}].end_port", f"must not be less than port {section.port}"
                    )
            ranges = ((section.port, section.end_port, index) for index, section in enumerate(ip.sections))
            for index, other in overlaps(ranges):
                yield FieldViolation(f"{at}.sections[{index}]", f"shares ports with sections[{other}]")
