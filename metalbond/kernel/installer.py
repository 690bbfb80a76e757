"""Keeps the kernel's routes as the received ones: the backend of `metalbond client --install-routes`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import structlog

from metalbond.kernel import netlink
from metalbond.kernel.netlink import Device, Failure, Notifications, Routes
from metalbond.kernel.plan import Hops, Installed, Key, Operation, Remove, choose, fault, key_of, plan
from metalbond.types import Destination, NextHop

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)

SETTLE = 0.05
"""Seconds for which changes gather before they are carried out together."""
RECHECK = 60.0
"""Seconds between readings of the kernel's tables when nothing is heard."""
RETRY_MIN, RETRY_MAX = 1.0, 30.0
"""Seconds before what failed is tried again; the wait doubles."""


class KernelRoutes:
    """A `RouteBackend`. `run` until cancelled, then `close`.

    tables: kernel's table by VNI; each table belongs to one VNI. device: name of the tunnel.
    """

    def __init__(self, tables: Mapping[int, int], device: str, *, ipv4_only: bool = False) -> None:
        self._tables = dict(tables)
        self._name = device
        self._ipv4_only = ipv4_only
        self._targets: dict[Key, Counter[bytes]] = {}
        self._desired: dict[Key, Hops] = {}
        self._complete: set[int] = set()
        self._work: asyncio.Future[Any] | None = None
        self._device: Device | None = None
        self._routes: Routes | None = None
        self._notifications: Notifications | None = None
        self._wake = asyncio.Event()
        self._errors: frozenset[str] = frozenset()
        self._pause = RETRY_MIN
        self._actual: dict[Key, Installed] = {}
        self._dirty: set[Key] = set()
        self._unread = True
        self.refused: Counter[str] = Counter()
        """Received routes that cannot be routes of the kernel, by reason."""
        self.applied: Counter[str] = Counter()
        """Operations, by "replace", "remove" and "failed"."""

    @property
    def installed(self) -> int:
        """Routes that the kernel has, as far as is known."""
        return len(self._actual)

    # What the client tells

    def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None:
        if (table := self._tables.get(vni)) is None:
            return self._refuse("no_table", f"VNI {vni}")
        if reason := fault(destination, hop, ipv4_only=self._ipv4_only):
            return self._refuse(reason, f"{vni} {destination} via {hop}")
        key = key_of(table, destination)
        self._targets.setdefault(key, Counter())[hop.target] += 1
        return self._want(key)

    def route_removed(self, vni: int, destination: Destination, hop: NextHop) -> None:
        table = self._tables.get(vni)
        if table is None or fault(destination, hop, ipv4_only=self._ipv4_only):
            return
        key = key_of(table, destination)
        targets = self._targets[key]
        targets[hop.target] -= 1
        if not targets[hop.target]:
            del targets[hop.target]
        self._want(key)

    def complete(self, vni: int) -> None:
        """Everything of the VNI is known: what the kernel has beyond that may go."""
        self._complete.add(self._tables[vni])
        self._unread = True
        self._wake.set()

    def _kernel_changed(self) -> None:
        self._unread = True
        self._wake.set()

    # Life

    async def open(self) -> None:
        """Raises OSError if this host cannot do it; the message says what it lacks."""
        device = await asyncio.to_thread(netlink.find_device, self._name)
        if device is None:
            raise netlink.KernelError(await asyncio.to_thread(netlink.why_no_device, self._name))
        self._device = device
        self._routes = await asyncio.to_thread(Routes)
        self._routes.probe(device.index)
        tables = frozenset(self._tables.values())
        self._notifications = Notifications(tables, self._name, self._routes.port, self._kernel_changed)

    async def run(self) -> None:
        """Reconcile on every change, for ever."""
        while True:
            failed = await self._pass()
            try:
                async with asyncio.timeout(self._pause if failed else RECHECK):
                    await self._wake.wait()
            except TimeoutError:
                self._unread = True
            self._pause = min(RETRY_MAX, self._pause * 2) if failed else RETRY_MIN
            await asyncio.sleep(SETTLE)

    async def close(self, *, clean_up: bool) -> None:
        """With `clean_up` take all routes away. Not while `run` runs."""
        if self._notifications is not None:
            self._notifications.close()
        if self._routes is None:
            return
        if self._work is not None:
            await asyncio.wait([self._work])
        if clean_up:
            self._desired.clear()
            self._complete = set(self._tables.values())
            self._unread = True
            await self._pass()
        self._routes.close()

    async def _pass(self) -> bool:
        """True if something is left to be tried again."""
        assert self._routes is not None
        self._wake.clear()
        everything, self._unread = self._unread, False
        try:
            if everything:
                await self._read()
            assert self._device is not None
            operations = self._plan(everything=everything)
            failures = await self._in_thread(self._routes.apply, operations, self._device.index)
        except OSError as error:
            self._unread = True
            self._report({str(error)})
            return True
        self._unread = self._unread or bool(failures)
        self._note(operations, failures)
        self._report({failure.error for failure in failures}, failures)
        return bool(failures)

    async def _read(self) -> None:
        assert self._routes is not None
        self._device = await asyncio.to_thread(netlink.find_device, self._name)
        if self._device is None:
            raise netlink.KernelError(await asyncio.to_thread(netlink.why_no_device, self._name))
        self._actual = await self._in_thread(self._routes.read, list(self._tables.values()), self._device.index)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Goes on to its end even if the caller is cancelled: the kernel must not be asked two things at once."""
        running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
        self._work = running
        return await asyncio.shield(running)

    def _plan(self, *, everything: bool) -> list[Operation]:
        """For all routes, or for those that have changed since the last call."""
        dirty, self._dirty = self._dirty, set()
        if everything:
            return plan(self._desired, self._actual, self._complete)
        desired = {key: self._desired[key] for key in dirty if key in self._desired}
        return plan(desired, {key: self._actual[key] for key in dirty if key in self._actual}, self._complete)

    def _note(self, operations: Sequence[Operation], failures: Sequence[Failure]) -> None:
        """The kernel has done this."""
        removed = 0
        for operation in operations:
            if isinstance(operation, Remove):
                removed += 1
                self._actual.pop(operation.key, None)
            else:
                self._actual[operation.key] = Installed(operation.hops)
        self.applied["remove"] += removed
        self.applied["replace"] += len(operations) - removed
        self.applied["failed"] += len(failures)
        if operations:
            log.info("kernel routes changed", replaced=len(operations) - removed, removed=removed, failed=len(failures))

    def _report(self, errors: set[str], failures: Sequence[Failure] = ()) -> None:
        """Once per change of the errors."""
        if errors and errors != self._errors:
            example = failures[0].operation if failures else None
            log.error(
                "kernel refuses routes, retrying",
                errors=sorted(errors),
                routes=len(failures),
                example=f"{example.key.destination} table {example.key.table}" if example else "",
            )
        elif self._errors and not errors:
            log.info("kernel takes routes again")
        self._errors = frozenset(errors)

    def _want(self, key: Key) -> None:
        if targets := self._targets[key]:
            self._desired[key] = choose(targets)
        else:
            del self._targets[key]
            del self._desired[key]
        self._dirty.add(key)
        self._wake.set()

    def _refuse(self, reason: str, what: str) -> None:
        self.refused[reason] += 1
        if self.refused[reason] == 1:
            log.warning("not a route for the kernel, more like it are only counted", reason=reason, route=what)
