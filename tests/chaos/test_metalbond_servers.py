"""50 clients, two route servers that are killed in turn, routes that change all the time: what is announced stays."""

import asyncio
import random
import signal
from contextlib import AsyncExitStack

import pytest

from metalbond.session import SessionState
from metalbond.types import Destination, NextHop, Route
from tests.support.metalbond import eventually, running_client, server_process

CLIENTS = 50
ROUNDS = 4
VNIS = 5
STABLE = 4
"""Routes of each client that are never withdrawn."""


def route(client: int, number: int) -> Route:
    destination = Destination((0x0A000000 + (client << 8) + number).to_bytes(4), 32)
    return Route(client % VNIS, destination, NextHop.to(f"fd00:{client + 1:x}::1"))


@pytest.mark.timeout(400)
async def test_no_announced_route_is_withdrawn_while_servers_are_killed_in_turn() -> None:
    chance = random.Random(50)
    async with AsyncExitStack() as stack:
        lives = [await stack.enter_async_context(AsyncExitStack()) for _ in range(2)]
        servers = [await life.enter_async_context(server_process()) for life in lives]
        addresses = [address for _, address in servers]
        clients, backends = [], []
        for number in range(CLIENTS):
            client, backend = await stack.enter_async_context(
                running_client(addresses, identity=f"node-{number}", settle_seconds=10.0, grace_seconds=120.0)
            )
            clients.append(client)
            backends.append(backend)
            client.subscribe(number % VNIS)
        announced = [{route(number, n) for n in range(STABLE)} for number in range(CLIENTS)]
        for client, routes in zip(clients, announced, strict=True):
            for one in routes:
                client.announce(*one)

        def expected(number: int) -> set[Route]:
            others = (announced[n] for n in range(CLIENTS) if n != number and n % VNIS == number % VNIS)
            return set().union(*others)

        def converged() -> bool:
            return all(backend.routes == expected(number) for number, backend in enumerate(backends))

        async def churn() -> None:
            while True:
                number = chance.randrange(CLIENTS)
                one = route(number, STABLE + chance.randrange(20))
                if one in announced[number]:
                    announced[number].discard(one)
                    clients[number].withdraw(*one)
                else:
                    announced[number].add(one)
                    clients[number].announce(*one)
                await asyncio.sleep(0.002)

        def all_up(address: str) -> bool:
            return all(client.server_states()[address] is SessionState.ESTABLISHED for client in clients)

        await eventually(converged, 30)
        churning = asyncio.create_task(churn())
        for number in range(ROUNDS):
            victim = number % 2
            process, address = servers[victim]
            await eventually(lambda: all_up(addresses[0]) and all_up(addresses[1]), 60)
            await process.stop(signal.SIGKILL)
            await eventually(lambda: not any(c.server_states()[address] is SessionState.ESTABLISHED for c in clients))  # noqa: B023
            await lives[victim].aclose()
            lives[victim] = await stack.enter_async_context(AsyncExitStack())
            servers[victim] = await lives[victim].enter_async_context(server_process(address))
        churning.cancel()
        await eventually(lambda: all_up(addresses[0]) and all_up(addresses[1]), 60)
        await eventually(converged, 60)
        changes = 0
        for number, backend in enumerate(backends):
            stable = {route(n, k) for n in range(CLIENTS) for k in range(STABLE) if n != number}
            assert not stable & set(backend.removals), f"client {number} lost routes that were announced all the time"
            changes += len(backend.history)
        assert changes > CLIENTS * STABLE
