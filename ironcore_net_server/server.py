"""One server process: store, API, controllers, in the order in which they need each other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from apimachinery.client import Client
from apimachinery.controller import ControllerContext, load_controllers, run_controllers
from apimachinery.endpoints import Endpoint
from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.election import Election
from apimachinery.etcd.process import EtcdProcess, EtcdProcessError
from apimachinery.flags import Listen, Observe
from apimachinery.resource import GroupContext, GroupRegistry
from apimachinery.sdnotify import Notifier
from apimachinery.server_app import ApiServer
from apimachinery.store import Store
from apimachinery.telemetry import setup_telemetry
from apimachinery.tls import ClientTls

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Etcd:
    """Where the store is: a private etcd in `data_dir`, or the cluster at `endpoints`."""

    data_dir: Path | None
    endpoints: tuple[str, ...] = ()
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ClientTls | None = None


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What one process serves and runs; names and options have been checked."""

    listen: Listen
    observe: Observe
    etcd: Etcd
    groups: Sequence[str]
    controllers: Sequence[str]
    options: Mapping[str, object]


async def serve(config: ServerConfig, notifier: Notifier) -> None:
    """Runs until cancelled. Raises OSError if an address or the private etcd cannot be had."""
    telemetry = setup_telemetry(
        "ironcore-net-server",
        page=config.observe.page,
        traces_to=config.observe.traces_to,
        trace_ratio=config.observe.trace_ratio,
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(telemetry.stop)
        store = await stack.enter_async_context(_open_store(config.etcd))
        groups = GroupRegistry().create(config.groups, GroupContext(store, config.options))
        server = ApiServer(store, groups, interceptors=telemetry.server_interceptors())
        own = Endpoint(path=str(stack.enter_context(_private_directory(config.etcd.data_dir)) / "api.sock"))
        # The addresses were checked with their flags.
        await server.start([*config.listen.addresses, own], config.listen.tls, insecure=True)
        stack.push_async_callback(server.stop)
        # What this process's own API does not answer, it does not for want of the store: one outage, told once.
        client = await stack.enter_async_context(Client(str(own), fenced=True, outage=store.outage))
        identity = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        context = ControllerContext(client, config.options, identity, store=store)
        async with asyncio.TaskGroup() as tasks:
            synced = []
            for name in config.controllers:
                done = asyncio.Event()
                synced.append(done)
                election = _election(name, context, store, sole_user=config.etcd.data_dir is not None)
                tasks.create_task(_run_controllers(name, context, election, done), name=f"controllers {name}")
            await server.wait_synced()
            await server.serving.wait()
            for done in synced:
                await done.wait()
            _log.info("ready", groups=list(config.groups), controllers=list(config.controllers))
            notifier.ready()
            # Cancelled by a signal, or by a task that fails.
            await asyncio.Event().wait()


def _election(name: str, context: ControllerContext, store: Store, *, sole_user: bool) -> Election:
    """The election of the controllers of one entry point.

    Each has its own, so processes that run different sets of controllers never run one twice.
    """
    partition = context.options["partition"] if name == "metalnetlet" else ""
    full_name = f"controllers.{name}.{partition}" if partition else f"controllers.{name}"
    return Election(store, full_name, context.identity, sole_user=sole_user)


async def _run_controllers(name: str, context: ControllerContext, leader: Election, synced: asyncio.Event) -> None:
    """Runs the controllers of one entry point whenever this process leads them."""
    await run_controllers(load_controllers(context, [name]), leader=leader, on_synced=synced.set)


@contextlib.asynccontextmanager
async def _open_store(etcd: Etcd) -> AsyncIterator[Store]:
    async with contextlib.AsyncExitStack() as stack:
        endpoints = etcd.endpoints
        if etcd.data_dir is not None:
            try:
                process = await stack.enter_async_context(EtcdProcess(etcd.data_dir))
            except EtcdProcessError as error:
                raise OSError(str(error)) from error
            endpoints = (process.endpoint,)
        client = EtcdClient(endpoints, tls=etcd.tls, user=etcd.user, password=etcd.password)
        yield await stack.enter_async_context(Store(await stack.enter_async_context(client)))


@contextlib.contextmanager
def _private_directory(data_dir: Path | None) -> Iterator[Path]:
    """A directory that nobody else may enter, for the socket over which the process talks to itself."""
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if data_dir is None and not runtime:
        with tempfile.TemporaryDirectory(prefix="ironcore-net-") as temporary:
            yield Path(temporary)
        return
    directory = (data_dir if data_dir is not None else Path(runtime)).resolve() / "run"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    yield directory
