"""Every metric of the node daemon. Names as in `apimachinery.metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from apimachinery.metrics import METER, ObservedGauge

if TYPE_CHECKING:
    from .plan.status import HostReport
    from .rim.host import Host

# Attributes: operation "CreateRoute", ..., result "done" | "refused".
OPERATIONS: Final = METER.create_counter("metalnet.engine.operations", description="Operations on the packet engine")
PASSES: Final = METER.create_histogram("metalnet.host.pass.duration", unit="s", description="Time of a reconcile pass")
# Attributes: kind "interface" | "prefix" | "route" | "problem" | "refused".
HOST_OBJECTS: Final = ObservedGauge("metalnet.host.objects", "What the engine has, and what it lacks")
ENGINE_REACHABLE: Final = ObservedGauge("metalnet.engine.reachable", "1 while the packet engine answers")


def track_host(host: Host) -> None:
    """Show the numbers of this host as long as it lives."""

    def reading(of: Callable[[HostReport], int]) -> Callable[[Host], float]:
        return lambda host: of(host.report)

    numbers: dict[str, Callable[[HostReport], int]] = {
        "interface": lambda report: len(report.actual.interfaces),
        "prefix": lambda report: len(report.actual.prefixes),
        "route": lambda report: len(report.actual.routes),
        "problem": lambda report: len(report.problems),
        "refused": lambda report: len(report.failures),
    }
    for kind, of in numbers.items():
        HOST_OBJECTS.track(host, reading(of), kind=kind)
    ENGINE_REACHABLE.track(host, reading(lambda report: report.reachable))
