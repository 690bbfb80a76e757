"""Main function of a daemon: event loop, signals, service manager, exit code."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator

import structlog
import uvloop

from apimachinery.errors import ApiError
from apimachinery.flags import ExitCode
from apimachinery.sdnotify import Notifier

_log = structlog.get_logger(__name__)


def run_daemon(main: Callable[[Notifier], Awaitable[None]]) -> ExitCode:
    """Runs `main` until it returns, fails, or SIGTERM or SIGINT cancels it; a second signal ends the process at once.

    `main` calls `notifier.ready()` itself, when it is synced. A cancelled `main` that ends cleanly is a success.
    """
    notifier = Notifier.from_environment()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(main, notifier))


async def _supervise(main: Callable[[Notifier], Awaitable[None]], notifier: Notifier) -> ExitCode:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main(notifier))
    stopping = False

    def stop(number: signal.Signals) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        _log.info("stopping", signal=number.name)
        notifier.stopping()
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    async with notifier.watchdog():
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await task
            except Exception as error:
                _log_failure(error)
                return ExitCode.FAILURE
    return ExitCode.OK


def _log_failure(error: Exception) -> None:
    for cause in _leaves(error):
        # An error of the API or of the system says all; anything else is a defect, and its place is needed.
        expected = isinstance(cause, ApiError | OSError)
        _log.critical("failed", error=str(cause) or type(cause).__name__, exc_info=None if expected else cause)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
