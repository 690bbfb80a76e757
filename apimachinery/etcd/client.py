"""Connection to an etcd cluster: several endpoints, TLS, user and password, and a verdict for every failed attempt.

All calls go to one member until an attempt fails there; then the next member takes over. A member that lost its leader
refuses calls (metadata ``hasleader``), so a partitioned one is left, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import grpc
import structlog
from etcd3 import etcdrpc
from tenacity import AsyncRetrying, RetryCallState, stop_after_delay, stop_never, wait_random_exponential

from apimachinery.etcd.errors import AttemptError, StoreUnavailable, Verdict, classify
from apimachinery.logs import Outage
from apimachinery.tls import ClientTls
from apimachinery.transport import client_options

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# sockaddr_un.sun_path less the final NUL.
MAX_SOCKET_PATH: Final = 107

_CHANNEL_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    # The size of answers is bounded by what is asked for; etcd's own client has no limit either.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    *client_options(),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a member listens: ``target`` is a gRPC target; ``secure`` is None if the text does not say."""

    text: str
    target: str
    secure: bool | None


def parse_endpoint(text: str) -> Endpoint:
    """``http://host:port``, ``https://host:port``, ``host:port`` or ``unix:///path``. ValueError says what is wrong."""
    try:
        url = urlsplit(text if "://" in text else f"//{text}")
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ValueError(f"etcd endpoint {text!r}: {error}") from None
    if url.scheme == "unix":
        if url.netloc or not url.path or len(url.path.encode()) > MAX_SOCKET_PATH:
            raise ValueError(f"etcd endpoint {text!r}: want unix:///path with at most {MAX_SOCKET_PATH} bytes of path")
        return Endpoint(text, f"unix:{url.path}", False)
    if url.scheme not in ("", "http", "https"):
        raise ValueError(f"etcd endpoint {text!r}: scheme {url.scheme!r} is not http, https or unix")
    if not host or not port or url.path not in ("", "/") or url.query or url.fragment or url.username is not None:
        raise ValueError(f"etcd endpoint {text!r}: want [http[s]://]host:port")
    secure = {"": None, "http": False, "https": True}[url.scheme]
    return Endpoint(text, f"dns:///[{host}]:{port}" if ":" in host else f"dns:///{host}:{port}", secure)


class Stubs:
    """etcd's services on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.kv = etcdrpc.KVStub(channel)
        self.watch = etcdrpc.WatchStub(channel)
        self.lease = etcdrpc.LeaseStub(channel)
        self.auth = etcdrpc.AuthStub(channel)
        self.maintenance = etcdrpc.MaintenanceStub(channel)


# Picks the method of one call, for example ``lambda stubs: stubs.kv.Range``. The messages are etcdrpc's, without types.
Method = Callable[[Stubs], Any]


class _Member:
    def __init__(self, endpoint: Endpoint, tls: ClientTls | None) -> None:
        self.endpoint = endpoint
        options: list[tuple[str, Any]] = list(_CHANNEL_OPTIONS)
        secure = tls is not None if endpoint.secure is None else endpoint.secure
        if secure:
            tls = tls or ClientTls()
            options += tls.channel_options()
            self.channel = grpc.aio.secure_channel(endpoint.target, tls.credentials(), options=options)
        else:
            self.channel = grpc.aio.insecure_channel(endpoint.target, options=options)
        self.stubs = Stubs(self.channel)


class EtcdClient:
    """Calls to a cluster. Create and use it in one event loop; close it when done (or use ``async with``).

    timeout:          seconds that :meth:`call` keeps trying.
    attempt_timeout:  seconds that one attempt at one member may take.

    ValueError: no endpoint or an unusable one. TlsError: unusable files.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: ClientTls | None = None,
        user: str = "",
        password: str = "",
        timeout: float = 10.0,
        attempt_timeout: float = 3.0,
    ) -> None:
        if not endpoints:
            raise ValueError("no etcd endpoint given")
        self.timeout = timeout
        self.attempt_timeout = attempt_timeout
        self._members = [_Member(parse_endpoint(text), tls) for text in endpoints]
        self._current = 0
        self._user, self._password = user, password
        self._token = ""
        self._login = asyncio.Lock()
        # What uses the client for long tells its own losses through a part.
        self.outage = Outage("etcd", endpoints=[member.endpoint.text for member in self._members])
        self._answers = True
        self._closed = False
        self._revision = 0
        self._observed_at = -math.inf

    async def __aenter__(self) -> EtcdClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every call and watch; they raise StoreUnavailable, or OutcomeUnknown for a commit under way."""
        self._closed = True
        for member in self._members:
            await member.channel.close()

    @property
    def revision(self) -> int:
        """Highest store revision that any answer showed; 0 before the first one."""
        return self._revision

    @property
    def revision_age(self) -> float:
        """Seconds since an answer last showed a revision."""
        return time.monotonic() - self._observed_at

    @property
    def available(self) -> bool:
        """False between a failed attempt and the next answer."""
        return self._answers

    async def attempt(self, method: Method, request: Any) -> Any:
        """One attempt at the current member. Raises AttemptError with a verdict; the next attempt may meet another."""
        member = self._members[self._current]
        token = await self._token_for_call()
        with self.judging(member, token):
            response = await method(member.stubs)(request, timeout=self.attempt_timeout, metadata=_metadata(token))
        self.observe(response.header)
        return response

    async def call(self, method: Method, request: Any) -> Any:
        """An idempotent call, repeated at all members until it succeeds. ApiError: refused, or ``timeout`` is over."""
        return await self.persist(lambda: self.attempt(method, request))

    async def persist(self, once: Callable[[], Awaitable[T]]) -> T:
        """Result of the first ``once()`` that does not end in an AttemptError that allows another one.

        Raises the ApiError behind the last failure when it is refused or ``timeout`` is over.
        """
        try:
            return await once()  # nearly always enough, and much cheaper than the policy below
        except AttemptError as failure:
            if failure.verdict is Verdict.REJECTED:
                raise failure.error from failure
        try:
            async for attempt in self.retrying(stop_after=self.timeout):
                with attempt:
                    return await once()
        except AttemptError as failure:
            raise failure.error from failure
        raise AssertionError("unreachable: retrying ends by return or by raising")

    def retrying(self, *, stop_after: float | None) -> AsyncRetrying:
        """Retry policy of what may be repeated: backs off from 50 ms to 1 s, in the end raises the last failure."""
        return AsyncRetrying(
            retry=_may_retry,
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=stop_after_delay(stop_after) if stop_after is not None else stop_never,
            reraise=True,
        )

    async def open_stream(self, method: Method) -> Stream:
        """A bidirectional stream to the current member."""
        member = self._members[self._current]
        token = await self._token_for_call()
        return Stream(self, member, token, method(member.stubs)(metadata=_metadata(token)))

    def observe(self, header: Any) -> None:
        """Takes note of the header of an answer."""
        self._revision = max(self._revision, header.revision)
        self._observed_at = time.monotonic()
        self._answers = True
        self.outage.recovered()

    @contextlib.contextmanager
    def judging(self, member: _Member, token: str) -> Iterator[None]:
        """Makes an AttemptError of whatever gRPC raises in the block."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self.failed(member, token, error) from error
        except grpc.aio.UsageError as error:
            raise AttemptError(Verdict.REJECTED, StoreUnavailable("the connection to etcd is closed")) from error
        except asyncio.CancelledError:
            # A closed channel cancels its calls, which must not look as if the task had been cancelled.
            task = asyncio.current_task()
            if self._closed and (task is None or not task.cancelling()):
                raise AttemptError(Verdict.UNKNOWN, StoreUnavailable("the connection to etcd was closed")) from None
            raise

    def failed(self, member: _Member, token: str, error: grpc.aio.AioRpcError) -> AttemptError:
        """Verdict on a failure at a member; leaves the member if it is the cause."""
        failure = classify(error.code(), error.details() or "")
        if failure.verdict is Verdict.TOKEN_REJECTED:
            self.forget_token(token)
        elif failure.verdict is not Verdict.REJECTED:
            self._answers = False
            self.outage.lost(failure, endpoint=member.endpoint.text)
            # Many calls fail at once when a member dies: only the first of them moves on.
            if self._members[self._current] is member:
                self._current = (self._current + 1) % len(self._members)
        return failure

    def forget_token(self, token: str) -> None:
        """The next call authenticates again, unless another one already did."""
        if self._token == token:
            self._token = ""

    async def _token_for_call(self) -> str:
        if not self._user or self._token:
            return self._token
        async with self._login:
            if not self._token:
                self._token = await self._authenticate()
        return self._token

    async def _authenticate(self) -> str:
        member = self._members[self._current]
        request = etcdrpc.AuthenticateRequest(name=self._user, password=self._password)
        with self.judging(member, ""):
            response = await member.stubs.auth.Authenticate(request, timeout=self.attempt_timeout)
        return str(response.token)


class Stream:
    """One bidirectional call. Failures are AttemptError; the client has then moved on to the next member."""

    def __init__(self, client: EtcdClient, member: _Member, token: str, call: Any) -> None:
        self._client = client
        self._member = member
        self.token = token
        self._call = call

    async def send(self, request: Any) -> None:
        """Hands a message to the connection."""
        with self._client.judging(self._member, self.token):
            try:
                await self._call.write(request)
            except asyncio.InvalidStateError:  # the call has already ended; its status says why
                raise await self._ended() from None

    async def receive(self) -> Any:
        """The next message. The stream of etcd's calls never ends well, so the end is a failure, too."""
        with self._client.judging(self._member, self.token):
            response = await self._call.read()
        if response is grpc.aio.EOF:
            raise await self._ended()
        self._client.observe(response.header)
        return response

    def abandon(self, reason: str) -> AttemptError:
        """Leaves a member that does not do its work; returns the failure to raise."""
        self.cancel()
        error = grpc.aio.AioRpcError(
            grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata(), details=reason
        )
        return self._client.failed(self._member, self.token, error)

    def cancel(self) -> None:
        """Ends the call."""
        self._call.cancel()

    async def _ended(self) -> AttemptError:
        error = grpc.aio.AioRpcError(
            await self._call.code(), grpc.aio.Metadata(), grpc.aio.Metadata(), details=await self._call.details()
        )
        return self._client.failed(self._member, self.token, error)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    # etcd ends calls of a member without a leader instead of answering from its past.
    return (("hasleader", "true"), ("token", token)) if token else (("hasleader", "true"),)


def _may_retry(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return isinstance(error, AttemptError) and error.verdict is not Verdict.REJECTED
