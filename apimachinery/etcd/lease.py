"""Leases that are kept alive, and that say so when they may be gone.

A lease is *lost* when etcd says it does not exist, or when its time to live has passed since the last renewal that etcd
confirmed was sent. The second is judged by the local clock alone, so it works with etcd unreachable; etcd itself never
lets a lease expire earlier.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog
from etcd3 import etcdrpc

from apimachinery import metrics
from apimachinery.errors import ApiError
from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.errors import AttemptError, LeaseNotFound, Verdict

_log = structlog.get_logger(__name__)

# Renewals per time to live: two may fail in a row without harm.
RENEWALS_PER_TTL: Final = 3


def now() -> float:
    """Seconds of the clock that leases are judged by. It goes on while the machine is suspended, as etcd's does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def grant_lease(client: EtcdClient, ttl: int) -> tuple[int, int]:
    """(id, ttl as etcd granted it) of a new lease. ``ttl`` in seconds, at least 1; etcd raises what is below its own
    minimum (twice the election timeout)."""
    if ttl < 1:
        raise ValueError(f"time to live of {ttl} s is not positive")
    # If the answer is lost, a repetition leaves a lease without keys behind, which expires.
    response = await client.call(lambda stubs: stubs.lease.LeaseGrant, etcdrpc.LeaseGrantRequest(TTL=ttl))
    return response.ID, response.TTL


async def renew_lease(client: EtcdClient, lease_id: int) -> int:
    """Time to live in seconds from now on. Raises LeaseNotFound if the lease is gone, StoreUnavailable."""
    return await client.persist(lambda: _renew_once(client, lease_id, client.attempt_timeout))


async def revoke_lease(client: EtcdClient, lease_id: int) -> None:
    """Ends a lease and deletes its keys now. A lease that is gone already is fine."""
    try:
        await client.call(lambda stubs: stubs.lease.LeaseRevoke, etcdrpc.LeaseRevokeRequest(ID=lease_id))
    except LeaseNotFound:
        return


async def _renew_once(client: EtcdClient, lease_id: int, limit: float) -> int:
    # A stream per renewal costs little and needs no state that could be stuck on a dead member.
    stream = await client.open_stream(lambda stubs: stubs.lease.LeaseKeepAlive)
    try:
        async with asyncio.timeout(limit):
            await stream.send(etcdrpc.LeaseKeepAliveRequest(ID=lease_id))
            response = await stream.receive()
    except TimeoutError:
        raise stream.abandon("no answer to a renewal") from None
    finally:
        stream.cancel()
    if response.TTL <= 0:
        raise AttemptError(Verdict.REJECTED, LeaseNotFound(f"lease {lease_id:x} does not exist"))
    return int(response.TTL)


class Lease:
    """A lease that renews itself until it is revoked, closed or lost. Create it with :meth:`grant`."""

    def __init__(self, client: EtcdClient, lease_id: int, ttl: int, confirmed_at: float) -> None:
        self.id = lease_id
        self.ttl = ttl
        # Set once the lease may be gone; never cleared.
        self.lost = asyncio.Event()
        self._client = client
        self._deadline = confirmed_at + ttl
        self._outage = client.outage.part(f"lease {lease_id:x}")
        self._renewals = asyncio.create_task(self._keep())

    @classmethod
    async def grant(cls, client: EtcdClient, ttl: int) -> Lease:
        """A new lease of ``ttl`` seconds. Raises StoreUnavailable, ValueError."""
        asked_at = now()
        lease_id, granted = await grant_lease(client, ttl)
        return cls(client, lease_id, granted, asked_at)

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.revoke()

    @property
    def remaining(self) -> float:
        """Seconds for which the lease certainly lives on, by the local clock; 0 if it may be gone."""
        return 0.0 if self.lost.is_set() else max(0.0, self._deadline - now())

    @property
    def valid(self) -> bool:
        """Whether the lease certainly lives. Also right when the event loop was stopped for longer than its time."""
        return self.remaining > 0

    async def close(self) -> None:
        """Stops renewing; the lease expires by itself."""
        self._renewals.cancel()
        await asyncio.gather(self._renewals, return_exceptions=True)
        self.lost.set()

    async def revoke(self) -> None:
        """Stops renewing and deletes the lease's keys now, or, if etcd is away, leaves them to expire."""
        await self.close()
        try:
            await revoke_lease(self._client, self.id)
        except ApiError as error:
            _log.warning("lease not revoked, it will expire", lease=f"{self.id:x}", error=str(error))

    async def _keep(self) -> None:
        try:
            async with asyncio.timeout(None) as limit:
                while True:
                    limit.reschedule(asyncio.get_running_loop().time() + self.remaining)
                    await asyncio.sleep(min(self.ttl / RENEWALS_PER_TTL, self.remaining))
                    await self._renew()
        except TimeoutError:
            metrics.STORE_LEASES_LOST.add(1)
            _log.error("lease lost: not renewed in time", lease=f"{self.id:x}", ttl=self.ttl)
        except AttemptError as failure:
            metrics.STORE_LEASES_LOST.add(1)
            _log.error("lease lost", lease=f"{self.id:x}", error=str(failure.error))
        finally:
            self._outage.close()
            self.lost.set()

    async def _renew(self) -> None:
        """Renews until it works. Raises AttemptError if it never will."""
        async for attempt in self._client.retrying(stop_after=None):
            with attempt:
                sent_at = now()
                try:
                    ttl = await _renew_once(self._client, self.id, self.ttl / RENEWALS_PER_TTL)
                except AttemptError as failure:
                    self._outage.lost(failure)
                    raise
        self._outage.recovered()
        self._deadline = sent_at + ttl
