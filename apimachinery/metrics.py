"""Every metric of the Python processes, in one place.

Names are OpenTelemetry's; in the Prometheus text a dot becomes "_", counters end with "_total", and the unit "s"
becomes "_seconds". Instruments work before `telemetry.setup_telemetry` was called and cost nothing then.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

METER: Final = get_meter("ironcore")

# Remote procedure calls. Attributes: method "/package.Service/Method", code "OK", "NOT_FOUND", ...
RPC_SERVER_REQUESTS: Final = METER.create_counter("ironcore.rpc.server.requests", description="Finished calls")
RPC_SERVER_DURATION: Final = METER.create_histogram(
    "ironcore.rpc.server.duration", unit="s", description="Time to answer a unary call"
)
RPC_SERVER_STREAMS: Final = METER.create_up_down_counter("ironcore.rpc.server.streams", description="Open streams")
RPC_CLIENT_REQUESTS: Final = METER.create_counter("ironcore.rpc.client.requests", description="Finished calls")
RPC_CLIENT_DURATION: Final = METER.create_histogram(
    "ironcore.rpc.client.duration", unit="s", description="Time until a unary call was answered"
)

# Controllers. Attributes: controller, result "ok" | "error" | "conflict" | "unavailable".
RECONCILES: Final = METER.create_counter("ironcore.reconciles", description="Finished runs of a key")
RECONCILE_DURATION: Final = METER.create_histogram("ironcore.reconcile.duration", unit="s", description="Time of a run")
LEADER_TERMS: Final = METER.create_up_down_counter("ironcore.leader", description="1 while this process leads")

# Informers. Attributes: kind "networks.apinet".
INFORMER_CHANGES: Final = METER.create_counter("ironcore.informer.changes", description="Changes of the local copy")
INFORMER_STREAMS: Final = METER.create_counter("ironcore.informer.streams", description="Watch streams that delivered")

# Garbage collector. Attributes: kind of the dependent, as above.
GC_DELETIONS: Final = METER.create_counter("ironcore.gc.deletions", description="Dependents deleted with their owner")


class ObservedGauge:
    """Gauge whose values are read when somebody looks: `track` a source, and forget it when its owner is gone."""

    def __init__(self, name: str, description: str) -> None:
        self._sources: weakref.WeakKeyDictionary[object, tuple[Callable[[], float], dict[str, str]]]
        self._sources = weakref.WeakKeyDictionary()
        METER.create_observable_gauge(name, callbacks=[self._observe], description=description)

    def track(self, owner: object, read: Callable[[], float], **attributes: str) -> None:
        """Shows `read()` as long as `owner` lives; `read` must not hold a strong reference to it.

        Sources with the same attributes are added up.
        """
        self._sources[owner] = (read, attributes)

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        sums: dict[tuple[tuple[str, str], ...], float] = {}
        for read, attributes in list(self._sources.values()):
            key = tuple(sorted(attributes.items()))
            sums[key] = sums.get(key, 0) + read()
        return [Observation(value, dict(key)) for key, value in sums.items()]


# Attributes: controller.
QUEUE_DEPTH: Final = ObservedGauge("ironcore.queue.depth", "Keys that wait for a worker")
# Attributes: kind, as above.
INFORMER_OBJECTS: Final = ObservedGauge("ironcore.informer.objects", "Objects in the local copy")
INFORMER_CONNECTED: Final = ObservedGauge("ironcore.informer.connected", "1 while synced and following")
