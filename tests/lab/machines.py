"""A machine provider: gives a guest its network interface the way a hypervisor's provider does.

It reads the tenant's interface, asks the global API for one on a node, waits until the node's daemon has a device for
it, plugs that device into the guest, and publishes the provider id on the tenant's interface.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.lab.guest import Guest
from tests.lab.stack import Stack
from tests.lab.topology import Hypervisor

TENANT = "team-a"
APINET = "default"
_APINET_VERSION = "core.apinet.ironcore.dev/v1alpha1"
_TENANT_VERSION = "networking.ironcore.dev/v1alpha1"


@dataclass(frozen=True)
class Placement:
    """Where a guest runs and which addresses its interface has."""

    guest: Guest
    hypervisor: Hypervisor
    ipv4: str
    ipv6: str
    device: str


class MachineProvider:
    """Places guests on hypervisors through the command line client alone."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """One object as its manifest."""
        document: dict[str, Any] = json.loads(self._stack.ironctl("get", kind, name, "-n", namespace, "-o", "json"))
        return document

    def place(self, guest: Guest, hypervisor: Hypervisor, *, timeout: int = 30) -> Placement:
        """Bring the interface `<guest>-eth0` of the tenant to the hypervisor and plug it in."""
        name = f"{guest.name}-eth0"
        tenant_nic = self.get("networkinterfaces.networking.ironcore.dev", name, TENANT)
        network_name = tenant_nic["spec"]["networkRef"]["name"]
        network = self.get("networks.networking.ironcore.dev", network_name, TENANT)
        addresses = [source["value"] for source in tenant_nic["spec"]["ips"]]
        nic = {
            "apiVersion": _APINET_VERSION,
            "kind": "NetworkInterface",
            "metadata": {"name": name, "namespace": APINET},
            "spec": {
                "networkRef": {"name": network["metadata"]["uid"]},
                "nodeRef": {"name": self._stack.node_name(hypervisor)},
                "ips": addresses,
                "hostname": guest.name,
            },
        }
        apply = ("apply", "--field-owner", "lab/machine-provider", "-f", "-")
        self._stack.ironctl(*apply, text_in=json.dumps(nic))
        resource = "networkinterfaces.core.apinet.ironcore.dev"
        self._stack.ironctl(
            *("wait", resource, name, "-n", APINET, "--for=jsonpath=status.state=Ready", f"--timeout={timeout}s"),
            timeout=timeout + 10,
        )
        ready = self.get(resource, name, APINET)
        device = str(ready["status"]["tapDevice"]["name"])
        guest.plug(hypervisor.namespace, device)
        provider_id = f"ironcore-net://{APINET}/{name}/{self._stack.node_name(hypervisor)}/{ready['metadata']['uid']}"
        published = {
            "apiVersion": _TENANT_VERSION,
            "kind": "NetworkInterface",
            "metadata": {"name": name, "namespace": TENANT},
            "spec": {"providerID": provider_id},
        }
        self._stack.ironctl(*apply, text_in=json.dumps(published))
        ipv4 = next(a for a in addresses if ":" not in a)
        ipv6 = next(a for a in addresses if ":" in a)
        return Placement(guest, hypervisor, ipv4, ipv6, device)
