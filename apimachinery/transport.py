"""gRPC options of every connection: a peer that fell silent is noticed, and one that came back is found again soon.

A frozen process, a dead host and a network that swallows packets all leave a connection open. Pings tell them from a
peer that has nothing to say.
"""

from typing import Final

# Seconds of silence after which a peer is asked for a sign of life, and in which it has to give one. The answer comes
# from gRPC's own threads, so a busy process gives it, too. etcd tolerates pings every 5 s and no faster.
PING_SECONDS: Final = 10
PING_TIMEOUT_SECONDS: Final = 4
# The fastest pings that a server accepts. gRPC's default is minutes: it ends connections for more ("too_many_pings").
_TOLERATED_SECONDS: Final = 5
# Longest time between two attempts to connect. gRPC's default grows to two minutes.
_RECONNECT_MS: Final = 1_000
# Bound of one attempt, a TLS handshake with a busy server included.
_CONNECT_MS: Final = 2_000

Options = list[tuple[str, int]]


def client_options(*, reconnect_ms: int = _RECONNECT_MS, idle_pings: bool = True) -> Options:
    """For a channel.

    reconnect_ms: longest time between two attempts to connect.
    idle_pings:   whether an idle connection is watched, too. Only for servers that allow it, as ours and etcd do.
    """
    return [
        *_pings(),
        ("grpc.keepalive_permit_without_calls", int(idle_pings)),
        ("grpc.initial_reconnect_backoff_ms", min(100, reconnect_ms)),
        ("grpc.max_reconnect_backoff_ms", reconnect_ms),
        # In spite of its name: the time that one attempt may take.
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
    ]


def server_options() -> Options:
    """For a server."""
    return [
        *_pings(),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _TOLERATED_SECONDS * 1000),
        # Two servers on one port would share its connections at random.
        ("grpc.so_reuseport", 0),
    ]


def _pings() -> Options:
    return [
        ("grpc.keepalive_time_ms", PING_SECONDS * 1000),
        # gRPC 1.85 does not go by the first but by the second, whose default is a minute; older versions the other way.
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_SECONDS * 1000),
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_SECONDS * 1000),
        # A side that only listens (a watch) would be allowed two pings and no more.
        ("grpc.http2.max_pings_without_data", 0),
    ]
