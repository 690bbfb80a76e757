"""Client of the resource API: typed verbs for every kind over one or several endpoints, errors as `ApiError`.

Verbs are built from the kind's descriptor, so no generated service stub is needed. Reads are retried while the server
is unavailable; writes never are, because nobody knows whether the lost one was applied.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from apimachinery.endpoints import Endpoint, parse_targets
from apimachinery.errors import ApiError, Conflict, NotFound, Unavailable, from_rpc_error
from apimachinery.fencing import HEADER, Fence, current_fence
from apimachinery.logs import Outage
from apimachinery.scheme import KindInfo, kind_info
from apimachinery.tls import ClientTls, Fingerprint, TlsError, fingerprint
from apimachinery.transport import client_options

_log = structlog.get_logger(__name__)

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Message)

Labels = meta_pb2.LabelSelector | Mapping[str, str]
Fields = Mapping[str, str] | Iterable[meta_pb2.FieldRequirement]

MAX_MESSAGE_BYTES = 64 << 20
_CHANNEL_OPTIONS: list[tuple[str, int | str]] = [
    *client_options(),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]


# Of these the client itself may be the cause.
_SILENCE = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


def api_outage(targets: Iterable[Endpoint]) -> Outage:
    """For the clients of one server."""
    return Outage("API server", targets=[str(target) for target in targets])


class ObjectList(list[M]):
    """Objects of a complete list, all as they were at `resource_version`."""

    def __init__(self, items: Iterable[M], resource_version: int) -> None:
        super().__init__(items)
        self.resource_version = resource_version


class _Connection:
    """A channel that, once it was replaced, closes itself with the end of its last call."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._calls = 0
        self._retired = False

    def __enter__(self) -> grpc.aio.Channel:
        self._calls += 1
        return self.channel

    def __exit__(self, *_: object) -> None:
        self._calls -= 1
        self._close_if_unused()

    def retire(self) -> None:
        self._retired = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._retired and self._calls == 0:
            self._closing = asyncio.get_running_loop().create_task(self.channel.close())


class Client:
    """Connection to one API server, or to several that serve the same store. Use from one event loop.

    target:       "host:port", "unix:/path", or several of them (list, or joined by commas): the next one is used when
                  one is unavailable.
    tls:          None: plain text. Renewed files are used from the next reconnect on.
    timeout:      deadline of a call in seconds; for reads it includes the retries.
    interceptors: of `grpc.aio`, for telemetry.
    outage:       what tells that the server is lost, for a process that goes on without it: failed calls are told, too,
                  and not only lost watches.
    fenced:       writes carry the term of leadership that their task runs in (see `apimachinery.fencing`). For servers
                  whose store holds the election.

    Raises ValueError for a malformed target, TlsError for unusable files. Connects with the first call.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        tls: ClientTls | None = None,
        *,
        timeout: float = 15.0,
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        fenced: bool = False,
        outage: Outage | None = None,
    ) -> None:
        self.targets: list[Endpoint] = parse_targets(target)
        self.outage = outage or api_outage(self.targets)
        self._tells_calls = outage is not None
        self.timeout = timeout
        self._tls = tls
        self._interceptors = list(interceptors)
        self._fenced = fenced
        self._fingerprint: Fingerprint | None = None
        self._current = 0
        self._closed = False
        self._connection = self._open()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all calls and streams."""
        self._closed = True
        await self._connection.channel.close()

    @property
    def target(self) -> Endpoint:
        """The endpoint in use."""
        return self.targets[self._current]

    def kind(self, message_class: type[M]) -> "KindClient[M]":
        """Verbs of the kind of this message class."""
        return KindClient(self, message_class)

    async def unary(
        self,
        method: str,
        request: Message,
        response_class: type[R],
        *,
        retry: bool = False,
        limit: float | None = None,
    ) -> R:
        """Calls `/<service>/<method>`. With `retry`, UNAVAILABLE is retried until the deadline: only for reads.

        `limit` replaces the client's timeout (seconds). Raises ApiError; a missed deadline is a plain ApiError with
        code DEADLINE_EXCEEDED.
        """
        limit = self.timeout if limit is None else limit
        if not retry:
            fence = current_fence.get() if self._fenced else None
            return await self._call(method, request, response_class, limit, fence)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            stop=stop_after_delay(limit),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._call(method, request, response_class, max(0.05, deadline - loop.time()))
        raise AssertionError("tenacity ends with a result or an error")

    async def stream(self, method: str, request: Message, response_class: type[R]) -> AsyncGenerator[R, None]:
        """Responses of a server stream until it fails, or until the server ends it. Raises ApiError; never retries.

        Close the iterator (`contextlib.aclosing`) to cancel the call at once.
        """
        connection = self._connection
        with connection as channel:
            multicallable: grpc.aio.UnaryStreamMultiCallable[Message, R] = channel.unary_stream(
                method, request_serializer=_serialize, response_deserializer=response_class.FromString
            )
            call = multicallable(request)
            try:
                async for response in call:
                    yield response
            except grpc.aio.AioRpcError as error:
                raise self._failed(connection, error) from None
            except asyncio.CancelledError:
                # gRPC reports a call that somebody else cancelled (a closed channel) in the same way as our own end.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                raise Unavailable("connection was closed") from None
            finally:
                call.cancel()

    async def _call(
        self, method: str, request: Message, response_class: type[R], limit: float, fence: Fence | None = None
    ) -> R:
        connection = self._connection
        with connection as channel:
            multicallable: grpc.aio.UnaryUnaryMultiCallable[Message, R] = channel.unary_unary(
                method, request_serializer=_serialize, response_deserializer=response_class.FromString
            )
            try:
                answer = await multicallable(
                    request, timeout=limit, metadata=((HEADER, str(fence)),) if fence else None
                )
            except grpc.aio.AioRpcError as error:
                failure = self._failed(connection, error)
                self._tell(failure)
                raise failure from None
            self._tell(None)
            return answer

    def _tell(self, failure: ApiError | None) -> None:
        """What the end of a call says about the server: that it works, that it does not, or (in silence) nothing."""
        if not self._tells_calls:
            return
        if isinstance(failure, Unavailable):
            self.outage.lost(failure)
        elif failure is None or failure.code not in _SILENCE:
            self.outage.recovered()

    def _failed(self, connection: _Connection, error: grpc.aio.AioRpcError) -> ApiError:
        if error.code() is grpc.StatusCode.UNAVAILABLE and connection is self._connection and not self._closed:
            self._fail_over()
        return from_rpc_error(error)

    def _fail_over(self) -> None:
        # With one endpoint and unchanged files the channel reconnects by itself.
        renewed = self._tls is not None and self._fingerprint != _fingerprint_or_none(self._tls)
        if len(self.targets) == 1 and not renewed:
            return
        self._current = (self._current + 1) % len(self.targets)
        try:
            fresh = self._open()
        except TlsError as error:
            _log.error("renewed TLS files are unusable, the old ones stay", error=str(error))
            return
        old, self._connection = self._connection, fresh
        old.retire()

    def _open(self) -> _Connection:
        target = str(self.targets[self._current])
        if self._tls is None:
            return _Connection(
                grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS, interceptors=self._interceptors)
            )
        self._fingerprint = _fingerprint_or_none(self._tls)
        options = [*_CHANNEL_OPTIONS, *self._tls.channel_options()]
        return _Connection(
            grpc.aio.secure_channel(target, self._tls.credentials(), options=options, interceptors=self._interceptors)
        )


class KindClient(Generic[M]):
    """Verbs of one kind. Every verb raises ApiError; objects that are passed in are not changed.

    An empty `namespace` means "default" for one object of a namespaced kind, and all namespaces for lists and watches.
    """

    def __init__(self, client: Client, message_class: type[M]) -> None:
        self.client = client
        self.message_class = message_class
        self.info: KindInfo = kind_info(message_class)

    async def get(self, namespace: str, name: str) -> M:
        """The object as the store has it now. Raises NotFound."""
        request = meta_pb2.GetRequest(namespace=namespace, name=name)
        return await self.invoke("Get", request, self.message_class, retry=True)

    async def find(self, namespace: str, name: str) -> M | None:
        """Like `get`, but None instead of NotFound."""
        try:
            return await self.get(namespace, name)
        except NotFound:
            return None

    async def list(
        self, namespace: str = "", *, labels: Labels | None = None, fields: Fields | None = None
    ) -> ObjectList[M]:
        """All objects that match, as they were at one revision.

        A list that is so long that its revision is compacted meanwhile begins anew; the third time raises Conflict.
        """
        retrying = AsyncRetrying(retry=retry_if_exception_type(Conflict), stop=stop_after_attempt(3), reraise=True)
        items: ObjectList[M] = ObjectList((), 0)
        async for attempt in retrying:
            with attempt:
                items = ObjectList((), 0)
                async for page, items.resource_version in self.pages(namespace, labels=labels, fields=fields):
                    items += page
        return items

    async def pages(
        self,
        namespace: str = "",
        *,
        labels: Labels | None = None,
        fields: Fields | None = None,
        page_size: int = 0,
    ) -> AsyncGenerator[tuple[Sequence[M], int], None]:
        """(objects, revision) page by page; every page shows the same revision. `page_size` 0: the server's choice."""
        request = meta_pb2.ListRequest(namespace=namespace, page_size=page_size)
        _set_selectors(request, labels, fields)
        while True:
            page = await self.invoke("List", request, self.info.list_class, retry=True)
            yield page.items, page.metadata.resource_version  # type: ignore[attr-defined]
            token: str = page.metadata.next_page_token  # type: ignore[attr-defined]
            if not token:
                return
            request.page_token = token

    def watch(
        self,
        namespace: str = "",
        *,
        labels: Labels | None = None,
        fields: Fields | None = None,
        resource_version: int = 0,
    ) -> AsyncGenerator[Message, None]:
        """One watch stream: `<Kind>WatchResponse` messages until it fails. `Informer` resumes lost streams."""
        request = meta_pb2.WatchRequest(namespace=namespace, resource_version=resource_version)
        _set_selectors(request, labels, fields)
        return self.client.stream(self._method("Watch"), request, self.info.watch_class)

    async def create(self, obj: M, *, field_owner: str = "", dry_run: bool = False) -> M:
        """Creates the object. Raises AlreadyExists, InvalidArgument, ResourceExhausted."""
        return await self._write("Create", obj, meta_pb2.WriteOptions(field_owner=field_owner, dry_run=dry_run))

    async def update(self, obj: M, *, field_owner: str = "", dry_run: bool = False) -> M:
        """Replaces all but status. The object has the resource_version it was read at. Raises Conflict, NotFound."""
        return await self._write("Update", obj, meta_pb2.WriteOptions(field_owner=field_owner, dry_run=dry_run))

    async def apply(self, obj: M, field_owner: str, *, force: bool = False, dry_run: bool = False) -> M:
        """Creates the object, or sets the populated fields and drops those that `field_owner` applied before.

        Raises Conflict if another owner set one of the fields differently, unless `force`.
        """
        options = meta_pb2.WriteOptions(field_owner=field_owner, force=force, dry_run=dry_run)
        return await self._write("Apply", obj, options)

    async def update_status(self, obj: M) -> M:
        """Replaces the status only. Raises Conflict, NotFound."""
        return await self._write("UpdateStatus", obj, None)

    async def delete(
        self,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: int = 0,
        propagation: "meta_pb2.PropagationPolicy.ValueType" = meta_pb2.PROPAGATION_POLICY_UNSPECIFIED,
    ) -> M:
        """Asks for deletion; returns the last state. Raises NotFound, and Conflict if a precondition does not hold."""
        request = meta_pb2.DeleteRequest(namespace=namespace, name=name, propagation_policy=propagation)
        if uid:
            request.preconditions.uid = uid
        if resource_version:
            request.preconditions.resource_version = resource_version
        return await self.invoke("Delete", request, self.message_class)

    async def add_finalizer(self, namespace: str, name: str, finalizer: str, *, uid: str = "") -> M:
        """Adds one finalizer atomically; has it already: no change. Raises NotFound, Conflict (other uid)."""
        request = meta_pb2.FinalizerRequest(namespace=namespace, name=name, finalizer=finalizer, uid=uid)
        return await self.invoke("AddFinalizer", request, self.message_class)

    async def remove_finalizer(self, namespace: str, name: str, finalizer: str, *, uid: str = "") -> M:
        """Removes one finalizer atomically; without any left, a deleted object disappears. Errors as add_finalizer."""
        request = meta_pb2.FinalizerRequest(namespace=namespace, name=name, finalizer=finalizer, uid=uid)
        return await self.invoke("RemoveFinalizer", request, self.message_class)

    async def invoke(self, method: str, request: Message, response_class: type[R], *, retry: bool = False) -> R:
        """Calls any method of the kind's service, for domain verbs. `retry` only if the method is a read."""
        return await self.client.unary(self._method(method), request, response_class, retry=retry)

    async def _write(self, method: str, obj: M, options: meta_pb2.WriteOptions | None) -> M:
        return await self.invoke(method, self.info.write_class(object=obj, options=options), self.message_class)

    def _method(self, name: str) -> str:
        return f"/{self.info.service_name}/{name}"


def field_requirements(fields: Fields | None) -> list[meta_pb2.FieldRequirement]:
    """The requirements that `fields` stands for; a mapping demands equality."""
    if isinstance(fields, Mapping):
        return [meta_pb2.FieldRequirement(field=field, value=value) for field, value in fields.items()]
    return list(fields or ())


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _fingerprint_or_none(tls: ClientTls) -> Fingerprint | None:
    try:
        return fingerprint(tls.files())
    except OSError:
        return None


def _set_selectors(
    request: meta_pb2.ListRequest | meta_pb2.WatchRequest, labels: Labels | None, fields: Fields | None
) -> None:
    if isinstance(labels, meta_pb2.LabelSelector):
        request.label_selector.CopyFrom(labels)
    elif labels is not None:
        request.label_selector.match_labels.update(labels)
        request.label_selector.SetInParent()
    request.field_selector.extend(field_requirements(fields))
