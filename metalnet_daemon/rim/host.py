"""The host's one reconcile loop: gather what is wanted, read what the engine has, plan, apply, announce, report.

Every input change wakes it; between changes it asks the engine now and then whether it is still the same process. A
restarted engine is initialized, read back and programmed again from the same desired state.
"""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network
from typing import Protocol

import structlog

from apimachinery.logs import Outage
from apimachinery.workqueue import Backoff
from metalnet_daemon import metrics
from metalnet_daemon.device.claims import ClaimStore
from metalnet_daemon.device.pool import assign
from metalnet_daemon.device.types import Device
from metalnet_daemon.plan.announce import announcements, underlay_addresses
from metalnet_daemon.plan.objects import HostObjects, HostSpec, host_spec
from metalnet_daemon.plan.planner import bounded, evolve, plan, recalled
from metalnet_daemon.plan.routes import RoutingPolicy, completed, routes_for, subscriptions, synced
from metalnet_daemon.plan.status import HostReport
from metalnet_daemon.plan.types import (
    Actual,
    CreateInterface,
    CreatePrefix,
    Desired,
    Interface,
    Operation,
    PrefixKey,
    Rib,
    Synced,
)
from metalnet_daemon.plan.underlay import Owner, choose_underlays, host_network, owners
from metalnet_daemon.snapshot import ObjectSnapshot, SnapshotStore, relevant

from .engine import EngineLostError, EngineRefusedError
from .execute import OperationTarget, Outcome, execute
from .ledger import RouteLedger
from .routes import RouteSource

_log = structlog.get_logger(__name__)

# Changes come in bursts; one pass serves all that arrive within this time (seconds).
_BATCH_SECONDS = 0.005
_ROUTES_SAVE_SECONDS = 10.0
# Of one pass: a second or two of the engine's time.
_MAX_OPERATIONS = 8192
_BACKOFF = Backoff(base=0.1, cap=30.0)
# A restarting engine is back within a second or so, and every moment counts.
_LOST_BACKOFF = Backoff(base=0.05, cap=0.25)


class Engine(OperationTarget, Protocol):
    """What the host needs of the engine; `EngineClient` has it."""

    async def identify(self) -> str: ...
    async def version(self, client_version: str) -> str: ...
    async def read(self) -> Actual: ...


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What the operator says about the host.

    underlay: the /64 of the host's underlay addresses; None learns it from the first address the engine gives out, so
    that this one is not stable over the first restart of the engine. Times in seconds.
    """

    public_vni: int = 100
    router: IPv6Address | None = None
    underlay: IPv6Network | None = None
    poll_seconds: float = 0.2
    resync_seconds: float = 300.0
    version: str = "0"


@dataclass(frozen=True, slots=True)
class HostMemory:
    """What the host keeps on disk."""

    claims: ClaimStore
    snapshots: SnapshotStore
    ledger: RouteLedger


class Host:
    """Keeps the engine of this host as the objects and the learned routes want it.

    objects: the present objects. on_report: called after every pass that found something new.
    """

    def __init__(
        self,
        config: HostConfig,
        engine: Engine,
        routes: RouteSource,
        pool: Sequence[Device],
        memory: HostMemory,
        objects: Callable[[], HostObjects],
        on_report: Callable[[HostReport], None],
    ) -> None:
        self._config = config
        self._engine = engine
        self._routes = routes
        self._pool = pool
        self._memory = memory
        self._objects = objects
        self._on_report = on_report
        self._saved = memory.snapshots.load_objects()
        self._saved_routes = memory.snapshots.load_routes()
        self._rib = self._saved_routes
        self._routes_saved_at = -_ROUTES_SAVE_SECONDS
        self._actual = Actual()
        self._requested: dict[str, Interface] = {}
        self._uuid = ""
        self._stale = True
        self._resync_at = 0.0
        self._due = 0.0
        self._wake = asyncio.Event()
        self._outage = Outage("engine")
        self._failures = 0
        self._complaints: dict[object, str] = {}
        self._ready = asyncio.Event()
        self.report = HostReport()
        metrics.track_host(self)
        self.engine_version = ""

    @property
    def ready(self) -> asyncio.Event:
        """Set once a pass with complete objects reached the engine."""
        return self._ready

    def wake(self) -> None:
        """Some input changed."""
        self._wake.set()

    async def run(self) -> None:
        """Reconcile until cancelled. No error ends it: each is said once and tried again with back-off."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                reached = await self._try_pass()
                poll = self._config.poll_seconds if reached else _LOST_BACKOFF.delay(self._failures, random.random())
                if await self._woken(max(0.0, min(poll, self._due - loop.time()) if reached else poll)):
                    await asyncio.sleep(_BATCH_SECONDS)
        finally:
            self._memory.snapshots.save_routes(self._rib)

    async def _woken(self, timeout: float) -> bool:  # noqa: ASYNC109 - a missed deadline is an answer here
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _try_pass(self) -> bool:
        """Look at the engine and run a pass if there is a reason; False if the engine is lost."""
        loop = asyncio.get_running_loop()
        try:
            await self._meet_engine()
            if not self._wake.is_set() and loop.time() < self._due:
                return True
            self._wake.clear()
            self._due = loop.time() + self._config.resync_seconds
            begin = loop.time()
            clean = await self._pass(begin)
            metrics.PASSES.record(loop.time() - begin)
            self._complaints.pop("host", None)
        except EngineLostError as error:
            self._outage.lost(error)
            self._uuid = ""
            self._failures += 1
            self._publish(replace(self.report, reachable=False))
            return False
        except (EngineRefusedError, ValueError, OSError) as error:
            self._complain("host", f"pass failed: {error}")
            self._stale = True
            clean = False
        if clean:
            self._failures = 0
        else:
            self._failures += 1
            self._due = min(self._due, loop.time() + _BACKOFF.delay(self._failures, random.random()))
        return True

    async def _meet_engine(self) -> None:
        uuid = await self._engine.identify()
        self._outage.recovered()
        if uuid != self._uuid:
            self.engine_version = await self._engine.version(self._config.version)
            _log.info("engine found", uuid=uuid, version=self.engine_version)
            self._uuid = uuid
            self._requested.clear()
            self._stale = True
            self._failures = 0
            self._due = 0.0

    async def _pass(self, now: float) -> bool:
        """One round; False if something that is wanted was refused."""
        if self._stale or now >= self._resync_at:
            listed = self._memory.ledger.complete(self._uuid, await self._engine.read())
            self._actual = recalled(listed, self._requested)
            self._resync_at = now + self._config.resync_seconds
            self._stale = False
        live = self._objects()
        objects = live if live.complete else replace(self._saved.objects, complete=False)
        spec = self._place(host_spec(objects, self._config.public_vni))
        desired, complete, rib = self._desired(spec, objects.complete)
        if objects.complete:
            self._saved = ObjectSnapshot(relevant(objects), _underlays(desired))
            await asyncio.to_thread(self._memory.snapshots.save_objects, self._saved)
        outcome = await self._apply(bounded(plan(desired, self._actual, complete), _MAX_OPERATIONS))
        self._routes.announce(announcements(desired, self._actual, self._config.public_vni))
        self._release_claims(spec, objects.complete)
        self._publish(self._report(spec, objects, outcome))
        if outcome.lost is not None:
            raise outcome.lost
        await self._save_routes(rib, now)
        if objects.complete:
            self._ready.set()
        if outcome.done:
            # What was created here may be imported by a peer network here, and devices may carry old records.
            self._stale |= any(isinstance(operation, CreateInterface) for operation, _ in outcome.done)
            self._wake.set()
        return not outcome.failed

    def _place(self, spec: HostSpec) -> HostSpec:
        """Give every interface its device; claims are on the disk before the device is used."""
        programmed = {uid: found.spec.device for uid, found in self._actual.interfaces.items()}
        assignment = assign(self._pool, self._memory.claims.claims, spec.wanted, programmed)
        for uid in assignment.new:
            self._memory.claims.claim(uid, assignment.devices[uid].name)
        return spec.with_devices(
            {uid: device.engine for uid, device in assignment.devices.items()}, assignment.problems
        )

    def _desired(self, spec: HostSpec, objects_complete: bool) -> tuple[Desired, Synced, Rib]:
        config, actual = self._config, self._actual
        desired = spec.desired()
        held = {actual.interfaces[uid].spec.vni for uid in spec.hold if uid in actual.interfaces}
        vnis = {interface.vni for interface in spec.interfaces.values()} | held
        policy = RoutingPolicy(config.public_vni, config.router, spec.exposures)
        needed = subscriptions(vnis, policy)
        self._routes.subscribe(needed)
        replayed, settled = self._routes.replayed(needed), self._routes.settled(needed)
        rib = completed(self._routes.live(), self._saved_routes, replayed, settled)
        if objects_complete:
            rib = {vni: table for vni, table in rib.items() if vni in needed}
        own = announcements(desired, actual, config.public_vni)
        underlays = choose_underlays(self._underlay_network(), owners(desired), self._underlays_in_use())
        desired = replace(
            desired,
            interface_underlay={uid: underlays.get(uid) for uid in desired.interfaces},
            prefixes={key: underlays.get(key) for key in desired.prefixes},
            routes=routes_for(vnis, rib, own, policy, underlay_addresses(actual)),
        )
        return desired, synced(objects_complete, vnis, policy, replayed, settled), rib

    def _underlays_in_use(self) -> Mapping[Owner, IPv6Address]:
        in_use: dict[Owner, IPv6Address] = dict(self._saved.underlays)
        in_use.update((uid, found.underlay) for uid, found in self._actual.interfaces.items())
        in_use.update((key, underlay) for key, underlay in self._actual.prefixes.items())
        return in_use

    def _underlay_network(self) -> IPv6Network | None:
        if self._config.underlay is not None:
            return self._config.underlay
        # What the engine uses now counts more than what it used when the snapshot was written.
        for address in (*underlay_addresses(self._actual), *self._saved.underlays.values()):
            return host_network(address)
        return None

    async def _apply(self, operations: Sequence[Operation]) -> Outcome:
        self._memory.ledger.strike(operations)
        outcome = await execute(self._engine, operations)
        self._actual = evolve(self._actual, outcome.done)
        self._memory.ledger.enter(self._actual.routes)
        for operation, _ in outcome.done:
            if isinstance(operation, CreateInterface):
                self._requested[operation.key] = operation.interface
            metrics.OPERATIONS.add(1, {"operation": type(operation).__name__, "result": "done"})
        for operation, _ in outcome.failed:
            metrics.OPERATIONS.add(1, {"operation": type(operation).__name__, "result": "refused"})
        if outcome.done:
            counts = collections.Counter(type(operation).__name__ for operation, _ in outcome.done)
            _log.info("host programmed", **dict(counts), failed=len(outcome.failed))
        for operation, error in outcome.failed:
            self._complain(operation.key, f"{type(operation).__name__} {operation.key}: {error}")
        failed = {operation.key for operation, _ in outcome.failed}
        self._complaints = {key: text for key, text in self._complaints.items() if key in failed or key == "host"}
        self._stale |= bool(outcome.failed)
        return outcome

    def _release_claims(self, spec: HostSpec, objects_complete: bool) -> None:
        """Give back devices that neither an object nor the engine holds."""
        alive = set(spec.interfaces) | spec.hold | self._actual.interfaces.keys()
        claims = self._memory.claims
        for uid in spec.removed - alive:
            claims.release(uid)
        if objects_complete:
            for uid in claims.collect(alive):
                _log.info("device claim of an interface that is gone released", interface=uid)

    def _report(self, spec: HostSpec, objects: HostObjects, outcome: Outcome) -> HostReport:
        failures: dict[str | PrefixKey, str] = {
            operation.key: str(error)
            for operation, error in outcome.failed
            if isinstance(operation, CreateInterface | CreatePrefix)
        }
        by_name = {device.name: device for device in self._pool}
        claims = self._memory.claims.claims
        return HostReport(
            actual=self._actual,
            problems=spec.problems,
            failures=failures,
            devices={uid: by_name[name] for uid, name in claims.items() if name in by_name},
            claimed=frozenset(claims),
            generations={nic.metadata.uid: nic.metadata.generation for nic in objects.interfaces},
            reachable=outcome.lost is None,
        )

    def _publish(self, report: HostReport) -> None:
        if report != self.report:
            self.report = report
            self._on_report(report)

    async def _save_routes(self, rib: Rib, now: float) -> None:
        self._rib = rib
        if rib == self._saved_routes:
            return
        due = self._routes_saved_at + _ROUTES_SAVE_SECONDS
        if now < due:
            self._due = min(self._due, due)
            return
        self._routes_saved_at = now
        self._saved_routes = rib
        await asyncio.to_thread(self._memory.snapshots.save_routes, rib)

    def _complain(self, about: object, text: str) -> None:
        """Log a failure once, until it changes or ends."""
        if self._complaints.get(about) != text:
            self._complaints[about] = text
            _log.warning("cannot program the host as wanted, retrying", error=text)


def _underlays(desired: Desired) -> dict[Owner, IPv6Address]:
    chosen: dict[Owner, IPv6Address] = {
        uid: address for uid, address in desired.interface_underlay.items() if address is not None
    }
    chosen.update((key, address) for key, address in desired.prefixes.items() if address is not None)
    return chosen
