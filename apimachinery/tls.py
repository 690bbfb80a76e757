"""TLS from files: checked when loaded, with errors that name the file; a running server follows renewed files."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import structlog

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_log = structlog.get_logger(__name__)

# (modification time in ns, inode, size) per file: changes when a file is rewritten or replaced.
Fingerprint = tuple[tuple[int, int, int], ...]


class TlsError(ValueError):
    """A certificate, key or CA file cannot be used; the message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files (PEM) of a server. With `client_ca` only clients with a certificate of that CA are let in (mutual TLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def mutual(self) -> bool:
        """True if clients must show a certificate."""
        return self.client_ca is not None

    def files(self) -> tuple[Path, ...]:
        """All files, in a fixed order."""
        return (self.certificate, self.key) if self.client_ca is None else (self.certificate, self.key, self.client_ca)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that are read again for the first handshake after a file changed.

        Raises TlsError if the files cannot be used now. Later unusable files are logged once per change, and the last
        good ones stay in force: a half-written renewal must not lock every client out.
        """
        files = _ReloadingConfiguration(self.files(), self._load)
        return grpc.dynamic_ssl_server_credentials(
            files.initial,
            files.changed,  # type: ignore[arg-type]  # None means "no change" (grpc documentation); the stub lacks it
            require_client_authentication=self.mutual,
        )

    def _load(self) -> grpc.ServerCertificateConfiguration:
        key, certificate = load_pair(self.certificate, self.key)
        roots = None if self.client_ca is None else load_ca(self.client_ca)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=roots)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Files (PEM) of a client: CA that signed the server (None: the system's), own certificate and key for mutual TLS.

    `server_name` replaces the target's host name in the check of the server's certificate.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def files(self) -> tuple[Path, ...]:
        """All files, in a fixed order."""
        return tuple(path for path in (self.ca, self.certificate, self.key) if path is not None)

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials of the files as they are now. Raises TlsError."""
        if (self.certificate is None) != (self.key is None):
            raise TlsError("a client certificate and its key are only usable together")
        key = certificate = None
        if self.certificate is not None and self.key is not None:
            key, certificate = load_pair(self.certificate, self.key)
        roots = None if self.ca is None else load_ca(self.ca)
        return grpc.ssl_channel_credentials(root_certificates=roots, private_key=key, certificate_chain=certificate)

    def channel_options(self) -> list[tuple[str, str]]:
        """gRPC channel options that go with the credentials."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []


def fingerprint(files: tuple[Path, ...]) -> Fingerprint:
    """What changes when one of the files is renewed. Raises OSError if one cannot be seen."""
    stats = [os.stat(path) for path in files]  # noqa: PTH116 - one call for all path types
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


# cryptography is imported where it is used: it takes 50 ms, and a command line without TLS starts without it.
def load_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """(key, certificate chain) in PEM, checked to belong together and to be valid now. Raises TlsError."""
    from cryptography.hazmat.primitives import serialization

    chain_pem, key_pem = _read(certificate), _read(key)
    chain = _certificates(certificate, chain_pem)
    try:
        private = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise TlsError(f"{key}: not an unencrypted PEM private key ({error})") from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        raise TlsError(f"{key}: not the key of the first certificate in {certificate}")
    if chain[0].not_valid_after_utc <= datetime.now(UTC):
        raise TlsError(f"{certificate}: expired at {chain[0].not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    return key_pem, chain_pem


def load_ca(path: Path) -> bytes:
    """CA certificates in PEM. Raises TlsError."""
    pem = _read(path)
    _certificates(path, pem)
    return pem


def _certificates(path: Path, pem: bytes) -> "list[Certificate]":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise TlsError(f"{path}: no PEM certificate ({error})") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}") from None


class _ReloadingConfiguration:
    """Gives gRPC the certificate of the files, anew after they changed. gRPC's handshake threads call `changed`."""

    def __init__(self, files: tuple[Path, ...], load: Callable[[], grpc.ServerCertificateConfiguration]) -> None:
        self._files = files
        self._load = load
        self._seen = self._fingerprint()
        self.initial = load()

    def _fingerprint(self) -> Fingerprint | None:
        try:
            return fingerprint(self._files)
        except OSError:
            return None

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """New configuration, or None if the last one stays."""
        now = self._fingerprint()
        if now == self._seen:
            return None
        self._seen = now
        try:
            fresh = self._load()
        except TlsError as error:
            _log.error("renewed TLS files are unusable, the old ones stay", error=str(error))
            return None
        _log.info("TLS files renewed", files=[str(path) for path in self._files])
        return fresh
