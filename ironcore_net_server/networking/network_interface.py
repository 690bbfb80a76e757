"""Network card of a machine: families follow addresses, and addresses follow families."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.networking.v1 import network_interface_pb2

from apimachinery.errors import FieldViolation
from apimachinery.formats import check_dns_label
from apimachinery.resource import ResourceHooks
from ironcore_net_server.networking.sources import check_ips, check_prefixes, default_families, default_prefixes
from ironcore_net_server.rules import check_template_metadata


class NetworkInterfaceHooks(ResourceHooks[network_interface_pb2.NetworkInterface]):
    """One address per family in the same order; templates name valid objects."""

    def default(
        self, obj: network_interface_pb2.NetworkInterface, old: network_interface_pb2.NetworkInterface | None
    ) -> None:
        default_families(obj.spec.ip_families, obj.spec.ips)
        default_prefixes(obj.spec.prefixes)

    def validate(
        self, obj: network_interface_pb2.NetworkInterface, old: network_interface_pb2.NetworkInterface | None
    ) -> Iterable[FieldViolation]:
        spec, name = obj.spec, obj.metadata.name
        yield from check_ips(spec.ip_families, spec.ips, name, needs_all=True)
        yield from check_prefixes(spec.prefixes, name)
        if spec.virtual_ip.HasField("ephemeral"):
            at = "spec.virtual_ip.ephemeral.virtual_ip_template"
            template = spec.virtual_ip.ephemeral.virtual_ip_template
            yield from check_template_metadata(template.metadata, f"{at}.metadata")
            # The VirtualIP is named like the interface, and its names are labels.
            if check_dns_label(name) is not None:
                yield FieldViolation(at, f'the derived name "{name}" is not a DNS label')
