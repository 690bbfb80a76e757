"""The host's side of the API: the objects of this node, their status and finalizers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ironcore.metalnet.v1 import network_interface_pb2, network_pb2

from apimachinery.client import Client
from apimachinery.controller import Controller, own_key
from apimachinery.finalizers import drop_finalizer, ensure_finalizer, has_finalizer, is_deleting
from apimachinery.informer import Informer, Key, key_of
from metalnet_daemon.plan.objects import INTERFACE_FINALIZER, HostObjects
from metalnet_daemon.plan.status import HostReport, interface_status

NODE_FIELD = "spec.node_name"


class NodeObjects:
    """What concerns one node: all networks, and the interfaces whose node it is. on_change: something changed."""

    def __init__(self, client: Client, node: str, on_change: Callable[[], None]) -> None:
        self.networks = Informer(client.kind(network_pb2.Network))
        self.interfaces = Informer(client.kind(network_interface_pb2.NetworkInterface), fields={NODE_FIELD: node})
        self._on_change = on_change
        for informer in (self.networks, self.interfaces):
            informer.add_handler(lambda _: on_change())

    async def announce_complete(self) -> None:
        """Report as a change that both kinds are complete: where there is no object, no other change says so."""
        await self.networks.wait_synced()
        await self.interfaces.wait_synced()
        self._on_change()

    def __call__(self) -> HostObjects:
        """The objects as last seen."""
        networks = {(network.metadata.namespace, network.metadata.name): network for network in self.networks.list()}
        complete = self.networks.synced and self.interfaces.synced
        return HostObjects(networks, tuple(self.interfaces.list()), complete)


class StatusWriter:
    """Writes what the host found into the interfaces' status, and takes part in their deletion. Run `controller`."""

    def __init__(self, objects: NodeObjects) -> None:
        self._interfaces = objects.interfaces
        self._report = HostReport()
        self._heard = False
        self.controller = Controller("interface-status", self._reconcile, [(objects.interfaces, own_key)], workers=8)

    def report(self, report: HostReport) -> None:
        """Take over what a pass of the host found."""
        self._report = report
        # Before the engine was met once, nothing is known, and an earlier life's status is better than nothing.
        self._heard |= report.reachable
        for nic in self._interfaces.list():
            if self._has_work(nic):
                self.controller.enqueue(key_of(nic))

    def _has_work(self, nic: network_interface_pb2.NetworkInterface) -> bool:
        if is_deleting(nic):
            return has_finalizer(nic, INTERFACE_FINALIZER) and self._report.is_gone(nic.metadata.uid)
        if not has_finalizer(nic, INTERFACE_FINALIZER):
            return True
        if not self._heard or not self._report.covers(nic):
            return False
        return interface_status(nic, self._report, datetime.now(UTC)) != nic.status

    async def _reconcile(self, key: Key) -> None:
        nic = self._interfaces.get(key.namespace, key.name)
        if nic is None or not self._has_work(nic):
            return
        client = self._interfaces.client
        if is_deleting(nic):
            await drop_finalizer(client, nic, INTERFACE_FINALIZER)
        elif not has_finalizer(nic, INTERFACE_FINALIZER):
            await ensure_finalizer(client, nic, INTERFACE_FINALIZER)
        else:
            changed = network_interface_pb2.NetworkInterface()
            changed.CopyFrom(nic)
            changed.status.CopyFrom(interface_status(nic, self._report, datetime.now(UTC)))
            await client.update_status(changed)
