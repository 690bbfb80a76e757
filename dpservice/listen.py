"""Addresses to serve on, and the TLS files that make serving beyond this machine safe."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

_log = structlog.get_logger(__name__)
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP endpoint, or a unix socket if `path` is set. Port 0 means any free one."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True if only this machine reaches it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str, default_port: int | None = None) -> Address:
    """`unix:/path`, `host:port`, `[v6]:port`; without a port `default_port` is taken. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"'{text}': a unix socket needs an absolute path, unix:/run/...")
        return Address(path=path)
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"'{text}' is not [IPv6]:port")
        port_text = rest[1:] if rest else None
    elif text.count(":") > 1:
        host, port_text = text, None
    else:
        host, colon, port_text = text.partition(":")
        port_text = port_text if colon else None
    if not host:
        raise ValueError(f"'{text}' has no host")
    if (":" in host or text.startswith("[")) and not _is_ipv6(host):
        raise ValueError(f"'{host}' is not an IPv6 address")
    if port_text is None:
        if default_port is None:
            raise ValueError(f"'{text}' has no port")
        return Address(host, default_port)
    if not (port_text.isascii() and port_text.isdecimal() and int(port_text) <= _MAX_PORT):
        raise ValueError(f"'{text}': the port must be 0..{_MAX_PORT}")
    return Address(host, int(port_text))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the server; with `client_ca` only clients with a certificate of that CA are served."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def check_exposure(addresses: Sequence[Address], tls: TlsFiles | None, *, insecure: bool) -> None:
    """Refuses addresses that other machines reach without mutual TLS. Raises ValueError."""
    if insecure or (tls is not None and tls.client_ca is not None):
        return
    for address in addresses:
        if not address.is_local:
            raise ValueError(
                f"{address} can be reached from other machines: give --tls-cert, --tls-key and --tls-client-ca, "
                "or --insecure if the network is trusted"
            )


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that follow renewed files: each handshake after a change uses the new ones if they are usable.

    Raises ValueError (with the file's name) or OSError if they are unusable now.
    """
    seen = [_stamps(files)]
    initial = _load(files)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        try:
            now = _stamps(files)
            if now == seen[0]:
                return None
            seen[0] = now
            return _load(files)
        except (OSError, ValueError) as error:
            _log.error("renewed TLS files are unusable, the old ones stay", error=str(error))
            return None

    return grpc.dynamic_ssl_server_credentials(
        initial,
        changed,  # type: ignore[arg-type]  # None means "no change" (grpc documentation); the stub lacks it
        require_client_authentication=files.client_ca is not None,
    )


def _stamps(files: TlsFiles) -> list[tuple[int, int]]:
    paths = [files.certificate, files.key, *([files.client_ca] if files.client_ca else [])]
    return [(status.st_mtime_ns, status.st_ino) for status in (path.stat() for path in paths)]


def _load(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError as error:
        raise ValueError(f"{files.certificate}: no PEM certificate ({error})") from None
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{files.key}: no unencrypted PEM key ({error})") from None
    if private.public_key() != public:
        raise ValueError(f"{files.key}: not the key of {files.certificate}")
    roots = None
    if files.client_ca is not None:
        roots = files.client_ca.read_bytes()
        try:
            x509.load_pem_x509_certificates(roots)
        except ValueError as error:
            raise ValueError(f"{files.client_ca}: no PEM certificates ({error})") from None
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=roots)
