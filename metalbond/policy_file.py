"""The file with the policy: read at the start, again after SIGHUP, and when it changes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import structlog

from metalbond.files import fingerprint
from metalbond.policy import Policy, PolicyError, parse

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0


class PolicyFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = fingerprint(path)
        self._asked = asyncio.Event()

    def load(self) -> Policy:
        """Raises PolicyError with the path."""
        self._seen = fingerprint(self._path)
        try:
            return parse(self._path.read_text())
        except OSError as error:
            raise PolicyError(f"{self._path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise PolicyError(f"{self._path}: not UTF-8") from None
        except PolicyError as error:
            raise PolicyError(f"{self._path}: {error}") from None

    async def follow(self, apply: Callable[[Policy], None]) -> None:
        """Until cancelled. A file that is no policy is reported once per change, and the last good one stays."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        try:
            while True:
                asked = await self._wait()
                if not asked and fingerprint(self._path) == self._seen:
                    continue
                try:
                    policy = self.load()
                except PolicyError as error:
                    log.error("policy cannot be used, the old one stays", error=str(error))
                else:
                    log.info("policy loaded", path=str(self._path), rules=len(policy.rules))
                    apply(policy)
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    async def _wait(self) -> bool:
        """True if SIGHUP came, False when it is time to look at the file."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True
