"""Every metric of the Python processes, in one place.

Names are OpenTelemetry's; in the Prometheus text a dot becomes "_", counters end with "_total", and the unit "s"
becomes "_seconds". Instruments work before `telemetry.setup_telemetry` was called and cost nothing then.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

METER: Final = get_meter("ironcore")

T = TypeVar("T")
_Attributes = tuple[tuple[str, str], ...]

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

# The store. Attributes: result "ok" | "conflict" | "refused" | "unavailable" | "unknown".
STORE_TRANSACTIONS: Final = METER.create_counter("ironcore.store.transactions", description="Finished transactions")
STORE_TRANSACTION_DURATION: Final = METER.create_histogram(
    "ironcore.store.transaction.duration", unit="s", description="Time of a transaction with all its attempts"
)
# Attributes: outcome "committed" | "absent" | "unknown".
STORE_LOST_ANSWERS: Final = METER.create_counter(
    "ironcore.store.lost.answers", description="Transactions that etcd did not answer, by what became of them"
)
# Attributes: prefix "/apinet/networks/", of the keys that are watched.
STORE_WATCH_RESTARTS: Final = METER.create_counter(
    "ironcore.store.watch.restarts", description="Streams of watches that were lost"
)
STORE_WATCH_COMPACTIONS: Final = METER.create_counter(
    "ironcore.store.watch.compactions", description="Watches that ended because etcd no longer has what they missed"
)
STORE_LEASES_LOST: Final = METER.create_counter("ironcore.store.leases.lost", description="Leases lost by their owner")

# Watch caches. Attributes: kind, as above; reason "slow" | "reloaded" | "history" | "foreign".
CACHE_RESETS: Final = METER.create_counter("ironcore.cache.resets", description="Watchers that were sent a RESET")

# Garbage collector. Attributes: kind of the dependent, as above.
GC_DELETIONS: Final = METER.create_counter("ironcore.gc.deletions", description="Dependents deleted with their owner")


class ObservedGauge:
    """Gauge whose values are read when somebody looks: `track` an owner, which is forgotten when it is gone."""

    def __init__(self, name: str, description: str) -> None:
        # Readings of an owner by their attributes.
        self._owners: weakref.WeakKeyDictionary[Any, dict[_Attributes, Callable[[Any], float]]]
        self._owners = weakref.WeakKeyDictionary()
        self._create(name, description)

    def _create(self, name: str, description: str) -> None:
        METER.create_observable_gauge(name, callbacks=[self._observe], description=description)

    def track(self, owner: T, read: Callable[[T], float], **attributes: str) -> None:
        """Shows `read(owner)` as long as `owner` lives; `read` must not hold a strong reference to it.

        Values with the same attributes are added up.
        """
        self._owners.setdefault(owner, {})[tuple(sorted(attributes.items()))] = read

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        sums: dict[_Attributes, float] = {}
        for owner, readings in list(self._owners.items()):
            for attributes, read in readings.items():
                sums[attributes] = sums.get(attributes, 0) + read(owner)
        return [Observation(value, dict(attributes)) for attributes, value in sums.items()]


class ObservedCounter(ObservedGauge):
    """The same for what only grows: where a counter's 8 µs for each step would be too many."""

    def _create(self, name: str, description: str) -> None:
        METER.create_observable_counter(name, callbacks=[self._observe], description=description)


# Attributes: controller.
QUEUE_DEPTH: Final = ObservedGauge("ironcore.queue.depth", "Keys that wait for a worker")
# Attributes: kind, as above.
INFORMER_OBJECTS: Final = ObservedGauge("ironcore.informer.objects", "Objects in the local copy")
INFORMER_CONNECTED: Final = ObservedGauge("ironcore.informer.connected", "1 while synced and following")
CACHE_OBJECTS: Final = ObservedGauge("ironcore.cache.objects", "Objects in the watch cache")
CACHE_WATCHERS: Final = ObservedGauge("ironcore.cache.watchers", "Watchers that are connected")
CACHE_HISTORY_EVENTS: Final = ObservedGauge("ironcore.cache.history.events", "Changes that a watcher can resume over")
CACHE_HISTORY_BYTES: Final = ObservedGauge("ironcore.cache.history.bytes", "Bytes of these changes")
CACHE_ENCODED_BYTES: Final = ObservedCounter("ironcore.cache.encoded.bytes", "Bytes of encoded events")
CACHE_LAG: Final = ObservedGauge("ironcore.cache.lag", "Revisions of the store that the cache does not show yet")
