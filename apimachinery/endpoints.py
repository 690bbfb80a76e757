"""Addresses of servers as users write them: "host:port", "[v6]:port" or "unix:/path"."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address. `path` is set for a unix socket, `host` and `port` (0: any free port, to listen on) otherwise."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """True if only processes of this machine can connect: a unix socket or a loopback address."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str, *, connect: bool = False) -> Endpoint:
    """Reads one address; with `connect` port 0 is refused. Raises ValueError that tells what is wrong with the text."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("//"):
            path = path.removeprefix("//")
        # sun_path has 108 bytes with the terminating zero (unix(7)).
        if not path or "\0" in path or len(path.encode()) > 107:
            raise ValueError(f"{text!r}: a socket path has 1 to 107 bytes")
        return Endpoint(path=path)
    host, separator, port_text = text.rpartition(":")
    if not separator or not host:
        raise ValueError(f"{text!r}: expected host:port, [IPv6]:port or unix:/path")
    if host.startswith("[") and host.endswith("]"):
        host = _ipv6(text, host[1:-1])
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets, as in [::1]:port")
    elif any(c.isspace() or c in "/,[]" for c in host):
        raise ValueError(f"{text!r}: {host!r} is no host name")
    if not (port_text.isascii() and port_text.isdecimal() and int(port_text) <= 65535):
        raise ValueError(f"{text!r}: port must be 0..65535")
    if connect and int(port_text) == 0:
        raise ValueError(f"{text!r}: port must be 1..65535")
    return Endpoint(host=host, port=int(port_text))


def parse_targets(target: str | Sequence[str]) -> list[Endpoint]:
    """Endpoints to connect to: a list, or one text with commas. Raises ValueError if one is malformed or all empty."""
    texts = target.split(",") if isinstance(target, str) else list(target)
    endpoints = [parse_endpoint(text.strip(), connect=True) for text in texts if text.strip()]
    if not endpoints:
        raise ValueError("no server address given")
    return endpoints


def _ipv6(text: str, host: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(f"{text!r}: {host!r} is no IPv6 address") from None
