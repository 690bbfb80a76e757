"""Which interface has which device, on disk: one file per interface, named by its id, containing the device's name.

A device can be kept out of use by a file whose name is an id with twelve zeros at the end, for example
00000001-0000-4000-8000-000000000000.
"""

from __future__ import annotations

import re
from pathlib import Path

import structlog

from metalnet_daemon.files import create_atomically, sync_directory

_log = structlog.get_logger(__name__)

_ID = re.compile(r"[A-Za-z0-9_-]{1,63}")
_MAX_NAME = 64


class ClaimStore:
    """The directory of claims. Raises OSError where the disk fails; unusable entries are reported and left alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        for leftover in directory.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        self._claims = dict(self._read())

    @property
    def claims(self) -> dict[str, str]:
        """Device name by interface id."""
        return dict(self._claims)

    def claim(self, interface_id: str, device: str) -> None:
        """Record a claim; it is on the disk when this returns. Replaces a claim of the same interface."""
        if self._claims.get(interface_id) == device:
            return
        self.release(interface_id)
        create_atomically(self._directory / interface_id, device)
        self._claims[interface_id] = device

    def release(self, interface_id: str) -> None:
        """Forget a claim; one that does not exist is a success."""
        if self._claims.pop(interface_id, None) is not None:
            (self._directory / interface_id).unlink(missing_ok=True)
            sync_directory(self._directory)

    def collect(self, alive: set[str]) -> list[str]:
        """Release the claims of interfaces that are not alive, except reservations; return their ids."""
        dead = [uid for uid in self._claims if uid not in alive and not is_reservation(uid)]
        for uid in dead:
            self.release(uid)
        return dead

    def _read(self) -> list[tuple[str, str]]:
        claims = []
        for path in sorted(self._directory.iterdir()):
            try:
                device = path.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                _log.warning("unreadable device claim ignored", path=str(path), error=str(error))
                continue
            if not _ID.fullmatch(path.name) or not 0 < len(device) <= _MAX_NAME:
                _log.warning("senseless device claim ignored", path=str(path))
                continue
            claims.append((path.name, device))
        return claims


def is_reservation(interface_id: str) -> bool:
    """True for an id that no object has, made up to keep a device out of use."""
    return interface_id.endswith("-000000000000")
