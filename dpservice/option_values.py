"""Readers of option values: from the word on the command line to the value. All raise ValueError with a reason."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from dpservice.listen import parse_address

DEFAULT_GRPC_PORT = 1337
_MAX_MAGLEV = 1 << 20


def text(limit: int) -> Callable[[str], str]:
    """A text of at most `limit` bytes."""

    def convert(word: str) -> str:
        if len(word.encode(errors="surrogateescape")) > limit:
            raise ValueError(f"Value '{word}' is longer than {limit} characters")
        return word

    return convert


def integer(low: int, high: int) -> Callable[[str], int]:
    """A decimal number in `low`..`high`."""

    def convert(word: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", word):
            raise ValueError(f"Value '{word}' is not a number")
        if not low <= int(word) <= high:
            raise ValueError(f"Value '{word}' is out of range {low}..{high}")
        return int(word)

    return convert


def choice(*choices: str) -> Callable[[str], str]:
    """One of the words."""

    def convert(word: str) -> str:
        if word not in choices:
            raise ValueError(f"Value '{word}' is not one of {', '.join(choices)}")
        return word

    return convert


def on_off(word: str) -> bool:
    """`on` or `off`."""
    return choice("on", "off")(word) == "on"


def ipv6(word: str) -> bytes:
    """Packed address of an IPv6 text."""
    try:
        return socket.inet_pton(socket.AF_INET6, word)
    except (OSError, ValueError):
        raise ValueError(f"Value '{word}' is not an IPv6 address") from None


def ipv4(word: str) -> bytes:
    """Packed address of a dotted quad."""
    try:
        return socket.inet_pton(socket.AF_INET, word)
    except (OSError, ValueError):
        raise ValueError(f"Value '{word}' is not an IPv4 address") from None


def ipv4_lenient(word: str) -> bytes:
    """Packed address of what inet_aton(3) reads."""
    try:
        return socket.inet_aton(word)
    except (OSError, ValueError):
        raise ValueError(f"Value '{word}' is not an IPv4 address") from None


def virtual_service(word: str) -> tuple[bytes, int, bytes, int]:
    """`IPv4,port,IPv6,port`: what VMs reach, and what stands for it outside."""
    parts = word.split(",")
    if len(parts) != 4:
        raise ValueError(f"Value '{word}' is not IPv4,port,IPv6,port")
    port = integer(1, 65535)
    return ipv4(parts[0]), port(parts[1]), ipv6(parts[2]), port(parts[3])


def listen(word: str) -> str:
    """An address to serve on."""
    parse_address(word, DEFAULT_GRPC_PORT)
    return word


def listen_tcp(word: str) -> str:
    """`host:port` to serve on."""
    if parse_address(word).path:
        raise ValueError(f"Value '{word}' is not host:port")
    return word


def maglev_size(word: str) -> int:
    """Slots of a Maglev table: a prime in 3..2^20, or 0."""
    size = integer(0, _MAX_MAGLEV)(word)
    prime = size > 2 and all(size % divisor for divisor in range(2, int(size**0.5) + 1))
    if size and not prime:
        raise ValueError(f"Value '{word}' is not a prime")
    return size
