"""The kernel's routes beside a running client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import click
import structlog

from metalbond.client import MetalbondClient
from metalbond.kernel.installer import KernelRoutes
from metalbond.kernel.options import KernelConfig

log = structlog.get_logger(__name__)


async def installed(
    work: Coroutine[Any, Any, None],
    routes: KernelRoutes,
    config: KernelConfig,
    client: MetalbondClient,
    subscribed: Sequence[int],
    settle: float,
) -> None:
    """Do `work`, the life of the client, with its routes in the kernel. Raises click.ClickException if it cannot."""
    try:
        await routes.open()
    except BaseException as error:
        work.close()
        if isinstance(error, OSError):
            raise click.ClickException(f"--install-routes: {error}") from None
        raise
    for vni in config.tables.keys() - set(subscribed):
        log.warning("table without a subscription, nothing will be installed", vni=vni, table=config.tables[vni])
    background = [asyncio.create_task(routes.run()), asyncio.create_task(_complete(routes, config, client, settle))]
    try:
        await work
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await routes.close(clean_up=config.clean_up)


async def _complete(routes: KernelRoutes, config: KernelConfig, client: MetalbondClient, settle: float) -> None:
    """Old routes of a VNI may go when servers have sent it whole, and others have had time to announce theirs again."""

    async def one(vni: int) -> None:
        await client.wait_synced(vni)
        await asyncio.sleep(settle)
        routes.complete(vni)

    await asyncio.gather(*map(one, config.tables))
