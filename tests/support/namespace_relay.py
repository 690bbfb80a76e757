"""A unix socket outside of a namespace that leads to a TCP port inside."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.lab.namespace import Namespace


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay(path: Path, namespace: Namespace, address: tuple[str, int]) -> Iterator[str]:
    """Forwards connections until the end; yields the gRPC target of the socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    sockets: list[socket.socket] = [listener]
    threads: list[threading.Thread] = []

    def serve() -> None:
        while True:
            try:
                outside, _ = listener.accept()
            except OSError:
                return
            sockets.append(outside)
            try:
                inside = namespace.call(lambda: socket.create_connection(address, timeout=10))
            except OSError:
                outside.close()
                continue
            inside.settimeout(None)
            sockets.append(inside)
            for pair in ((outside, inside), (inside, outside)):
                threads.append(threading.Thread(target=_pump, args=pair, daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()
    try:
        yield f"unix:{path}"
    finally:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        accepting.join(10)
        for thread in threads:
            thread.join(10)
        for one in sockets:
            one.close()
