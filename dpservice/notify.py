"""Messages to the service manager, as sd_notify(3) describes them. Without NOTIFY_SOCKET they go nowhere."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> bool:
    """Sends e.g. "READY=1"; False if nobody got it. A service manager that went away never fails the service."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto(message.encode(), address)
        except OSError:
            return False
    return True
