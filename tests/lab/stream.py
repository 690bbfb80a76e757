"""TCP connections between guests, held open by the caller."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

from tests.lab.guest import Guest

_SECONDS = 5.0
# Fits into the socket buffers of both ends, so that one thread can do both.
_CHUNK = 32 * 1024


class Stream:
    """One established connection, both ends."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._ends = (client, server)
        self._bytes = random.Random(1)

    def exchange(self) -> None:
        """Send a chunk each way. Raises TimeoutError if one does not arrive, AssertionError if it arrives changed."""
        for source, target in (self._ends, self._ends[::-1]):
            chunk = self._bytes.randbytes(_CHUNK)
            source.sendall(chunk)
            received = b""
            while len(received) < len(chunk):
                part = target.recv(len(chunk) - len(received))
                if not part:
                    raise ConnectionError("the other end has closed")
                received += part
            assert received == chunk


@contextlib.contextmanager
def stream(source: Guest, target: Guest, address: str) -> Iterator[Stream]:
    """A new connection from one guest to another. Raises OSError if it does not come up in time."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def listen() -> socket.socket:
        listener = socket.socket(family)
        listener.bind((address, 0))
        listener.listen()
        return listener

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(target.namespace.call(listen))
        client = stack.enter_context(source.namespace.call(lambda: socket.socket(family)))
        for end in (listener, client):
            end.settimeout(_SECONDS)
        client.connect((address, listener.getsockname()[1]))
        server, _ = listener.accept()
        stack.enter_context(server)
        server.settimeout(_SECONDS)
        yield Stream(client, server)
