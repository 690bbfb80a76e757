"""TLS 1.3 with certificates on both sides. Files are read again when they changed; unusable new ones change nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

import structlog
from cryptography import x509

from metalbond.files import Fingerprint, fingerprint

log = structlog.get_logger(__name__)


class TlsError(ValueError):
    """A file cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: own certificate (with its chain) and key, and the CAs that the other side's certificate must be of."""

    certificate: Path
    key: Path
    ca: Path


class Tls:
    """Context of one side for the files as they are now."""

    def __init__(self, files: TlsFiles, *, server_side: bool) -> None:
        """Raises TlsError."""
        self._files = files
        self._server_side = server_side
        self._seen = self._fingerprint()
        self._context = _context(files, server_side)

    def _fingerprint(self) -> Fingerprint:
        return fingerprint(self._files.certificate, self._files.key, self._files.ca)

    @property
    def name(self) -> str:
        """Common name of the own certificate, empty if it has none."""
        certificate = x509.load_pem_x509_certificate(self._files.certificate.read_bytes())
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return str(names[0].value) if names else ""

    def context(self) -> ssl.SSLContext:
        seen = self._fingerprint()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = _context(self._files, self._server_side)
            except TlsError as error:
                log.error("renewed TLS files are unusable, the old ones stay", error=str(error))
            else:
                log.info("TLS files renewed", certificate=str(self._files.certificate))
        return self._context


def _context(files: TlsFiles, server_side: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    if server_side:
        context.num_tickets = 0
    for path in (files.certificate, files.key, files.ca):
        try:
            path.read_bytes()
        except OSError as error:
            raise TlsError(f"{path}: {error.strerror}") from None
    try:
        context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as error:
        raise TlsError(f"{files.certificate} with {files.key}: {_text(error)}") from None
    try:
        context.load_verify_locations(files.ca)
    except ssl.SSLError as error:
        raise TlsError(f"{files.ca}: {_text(error)}") from None
    return context


async def handshake(sock: socket, context: ssl.SSLContext, *, server_name: str | None = None) -> ssl.SSLSocket:
    """Secure a connected non-blocking socket, which is closed if that fails. `server_name`: given by the dialling side,
    must be in the other's certificate. Raises OSError (which ssl.SSLError is).
    """
    loop = asyncio.get_running_loop()
    secure = context.wrap_socket(
        sock, server_side=server_name is None, server_hostname=server_name, do_handshake_on_connect=False
    )
    try:
        while True:
            try:
                secure.do_handshake()
            except ssl.SSLWantReadError:
                await _ready(secure, loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await _ready(secure, loop.add_writer, loop.remove_writer)
            else:
                return secure
    except BaseException:
        secure.close()
        raise


def peer_name(sock: socket) -> str:
    """Common name of the other side's certificate, empty without TLS."""
    certificate = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    if not certificate:
        return ""
    subject: Any = certificate.get("subject", ())
    return next((value for part in subject for key, value in part if key == "commonName"), "")


async def _ready(sock: socket, add: Callable[..., Any], remove: Callable[[socket], Any]) -> None:
    ready = asyncio.get_running_loop().create_future()
    add(sock, _set, ready)
    try:
        await ready
    finally:
        remove(sock)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _text(error: ssl.SSLError) -> str:
    return error.reason or str(error)
