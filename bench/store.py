"""Speed of the store on a private etcd: puts, transactions, watch events and catching up. Prints JSON.

    python bench/store.py [--seconds 3] [--concurrency 256] [--directory /dev/shm]

Store and etcd share the machine; values have 512 bytes. A ``put`` is a transaction without conditions, a
``transaction`` is what one create of an object with one unique index key costs: two conditions, two puts. Watch events
are measured with the writers running (time from the first event to the last) and for a watch that has to catch up with
all of them (etcd sends such a watch 1000 revisions every 100 ms and no more).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.process import EtcdProcess
from apimachinery.logs import configure_logging
from apimachinery.store import Store, Txn, WatchBatch

VALUE = bytes(512)


@dataclass(frozen=True)
class Rate:
    """``cpu_microseconds``: processor time of this process per call, which other load on the machine hardly changes."""

    per_second: float
    cpu_microseconds: float


async def rate(work: Callable[[int], Awaitable[object]], concurrency: int, seconds: float) -> Rate:
    """Calls per second of so many callers, each waiting for its answer."""
    numbers, done = itertools.count(), 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await work(next(numbers))
            done += 1

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return Rate(done / (time.perf_counter() - started), (time.process_time() - cpu) / done * 1e6)


async def consume(store: Store, prefix: str, start: int, count: int) -> float:
    """Events per second of a watch, from its first event until ``count`` have come."""
    seen, first = 0, 0.0
    async with contextlib.aclosing(store.watch(prefix, after_revision=start)) as items:
        async for item in items:
            if isinstance(item, WatchBatch):
                first = first or time.perf_counter()
                seen += len(item.changes)
                if seen >= count:
                    break
    return seen / (time.perf_counter() - first)


async def measure(directory: str | None, seconds: float, concurrency: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=directory) as home:
        async with EtcdProcess(Path(home)) as etcd, EtcdClient([etcd.endpoint]) as client, Store(client) as store:

            async def put(number: int) -> None:
                await store.commit(Txn().put(f"/put/{number}", VALUE))

            async def create(number: int) -> None:
                key, claim = f"/object/{number}", f"/claims/{number}"
                txn = Txn().require_absent(key).require_absent(claim).put(key, VALUE).put(claim, key.encode())
                await store.commit(txn)

            async def get(number: int) -> None:
                await store.get("/put/0")

            start = 0
            results: dict[str, float] = {}
            for name, work, callers in (
                ("puts_sequential", put, 1),
                ("puts", put, concurrency),
                ("transactions", create, concurrency),
                ("gets", get, concurrency),
            ):
                if work is create:
                    start = await store.current_revision()
                measured = await rate(work, callers, seconds)
                results[f"{name}_per_second"] = measured.per_second
                results[f"{name}_cpu_microseconds"] = measured.cpu_microseconds
            count = await store.count("/object/")
            results["catch_up_events_per_second"] = await consume(store, "/object/", start, count)
            started = time.perf_counter()
            await store.list("/object/")
            results["listed_keys_per_second"] = count / (time.perf_counter() - started)
            start = await store.current_revision()
            live = 20_000
            watching = asyncio.create_task(consume(store, "/live/", start, live))
            slots = asyncio.Semaphore(concurrency)

            async def change(number: int) -> None:
                async with slots:
                    await store.commit(Txn().put(f"/live/{number % 1000}", VALUE))

            await asyncio.gather(*map(change, range(live)))
            results["live_events_per_second_with_one_watch"] = await watching
    return {name: round(value, 1) for name, value in results.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument("--concurrency", type=int, default=256, help="callers at once")
    parser.add_argument("--directory", help="where etcd keeps its data; default: the system's temporary directory")
    arguments = parser.parse_args()
    configure_logging("warning")
    results = uvloop.run(measure(arguments.directory, arguments.seconds, arguments.concurrency))
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load_before": os.getloadavg()[0]}
    print(json.dumps({"bench": "store", "concurrency": arguments.concurrency, **machine, "results": results}))


if __name__ == "__main__":
    main()
