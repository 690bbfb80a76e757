"""Status of an interface as this host sees it. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ironcore.meta.v1 import types_pb2
from ironcore.metalnet.v1 import network_interface_pb2

from apimachinery.conditions import FALSE, TRUE, set_condition
from metalnet_daemon.device.types import Device

from .objects import NetworkInterface, Problem
from .types import Actual, PrefixKey, PrefixKind

READY_CONDITION = "Ready"
COMPLETE_CONDITION = "Complete"


@dataclass(frozen=True, slots=True)
class HostReport:
    """What a pass of the host found, for the status of its interfaces.

    problems: interfaces that cannot be programmed. failures: what the engine refused, by interface or prefix.
    devices: by interface id. claimed: ids that hold a device. generations: of the objects that were looked at, by id.
    reachable: False while the engine is lost; `actual` is the last known state then.
    """

    actual: Actual = field(default_factory=Actual)
    problems: Mapping[str, Problem] = field(default_factory=dict)
    failures: Mapping[str | PrefixKey, str] = field(default_factory=dict)
    devices: Mapping[str, Device] = field(default_factory=dict)
    claimed: frozenset[str] = frozenset()
    generations: Mapping[str, int] = field(default_factory=dict)
    reachable: bool = False

    def is_gone(self, uid: str) -> bool:
        """True if nothing of the interface is left on this host."""
        return (
            self.reachable
            and uid not in self.actual.interfaces
            and uid not in self.claimed
            and all(key.interface_id != uid for key in self.actual.prefixes)
        )

    def covers(self, nic: NetworkInterface) -> bool:
        """False if a pass that looks at this generation of the interface is still to come."""
        return not self.reachable or self.generations.get(nic.metadata.uid) == nic.metadata.generation


def interface_status(
    nic: NetworkInterface, report: HostReport, now: datetime
) -> network_interface_pb2.NetworkInterfaceStatus:
    """The status that `nic` should have; equal to the one it has if nothing changed."""
    uid = nic.metadata.uid
    status = network_interface_pb2.NetworkInterfaceStatus()
    status.conditions.extend(nic.status.conditions)
    # An unreachable engine may keep the host from looking at the newest generation.
    generation = report.generations.get(uid, nic.status.observed_generation)
    status.observed_generation = generation
    state, reason, message = _state(uid, report)
    status.state = state
    _set_device(status, report.devices.get(uid))
    found = report.actual.interfaces.get(uid)
    if found is not None:
        status.underlay_ip = str(found.underlay)
        status.prefixes.extend(_programmed(PrefixKind.ALIAS, uid, report))
        status.load_balancer_targets.extend(_programmed(PrefixKind.LOAD_BALANCER, uid, report))
    ready = TRUE if state == types_pb2.REALIZATION_STATE_READY else FALSE
    set_condition(
        status.conditions,
        READY_CONDITION,
        ready,
        reason=reason,
        message=message,
        observed_generation=generation,
        now=now,
    )
    complete, reason, message = _completeness(nic, report)
    set_condition(
        status.conditions,
        COMPLETE_CONDITION,
        TRUE if complete else FALSE,
        reason=reason,
        message=message,
        observed_generation=generation,
        now=now,
    )
    return status


def _state(uid: str, report: HostReport) -> tuple[types_pb2.RealizationState.ValueType, str, str]:
    problem = report.problems.get(uid)
    if problem is not None:
        state = types_pb2.REALIZATION_STATE_PENDING if problem.pending else types_pb2.REALIZATION_STATE_ERROR
        return state, problem.reason, problem.message
    if uid in report.failures:
        return types_pb2.REALIZATION_STATE_ERROR, "EngineRefused", f"the engine refused: {report.failures[uid]}"
    if uid in report.actual.interfaces:
        return types_pb2.REALIZATION_STATE_READY, "Programmed", "the interface is programmed"
    return types_pb2.REALIZATION_STATE_PENDING, "NotProgrammed", "the interface waits for the engine"


def _completeness(nic: NetworkInterface, report: HostReport) -> tuple[bool, str, str]:
    """Whether everything that spec asks for beside the addresses is in effect."""
    failed = [
        f"{key.prefix}: {error}"
        for key, error in report.failures.items()
        if isinstance(key, PrefixKey) and key.interface_id == nic.metadata.uid
    ]
    if failed:
        return False, "PrefixRefused", "; ".join(sorted(failed))
    spec = nic.spec
    asked = {
        "virtualIP": bool(spec.virtual_ip),
        "nat": spec.HasField("nat"),
        "firewallRules": bool(spec.firewall_rules),
    }
    missing = [name for name, wanted in asked.items() if wanted]
    if missing:
        return False, "NotSupported", f"this host does not program {', '.join(missing)}"
    if nic.metadata.uid not in report.actual.interfaces:
        return False, "NotProgrammed", "the interface is not programmed"
    return True, "Programmed", "everything in spec is programmed"


def _programmed(kind: PrefixKind, uid: str, report: HostReport) -> list[str]:
    return sorted(str(key.prefix) for key in report.actual.prefixes if key.kind is kind and key.interface_id == uid)


def _set_device(status: network_interface_pb2.NetworkInterfaceStatus, device: Device | None) -> None:
    if device is None:
        return
    if device.pci is None:
        status.tap_device.name = device.name
        return
    address = device.pci
    status.pci_address.domain = f"{address.domain:04x}"
    status.pci_address.bus = f"{address.bus:02x}"
    status.pci_address.slot = f"{address.device:02x}"
    status.pci_address.function = f"{address.function:x}"
