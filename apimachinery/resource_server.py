"""The gRPC service of one kind, made from its descriptor: generic verbs and the domain verbs of its hooks.

Answers to Get, List and Watch are composed of stored bytes; nothing is decoded or encoded again for them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn, TypeVar, cast

import grpc
import structlog
from google.protobuf import message_factory
from google.protobuf.message import DecodeError, Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.errors import ApiError, FieldViolation, Internal, InvalidArgument, NotFound
from apimachinery.fencing import HEADER, Fence, current_fence
from apimachinery.listing import list_page
from apimachinery.resource import ExtraMethod, ResourceKind
from apimachinery.store import Store
from apimachinery.validation import check_rules
from apimachinery.watch_cache import CacheLimits, WatchCache
from apimachinery.watch_filter import make_filter
from apimachinery.watch_stream import DEFAULT_TIMING, WatchTiming, watch_responses
from apimachinery.wire import with_revision
from apimachinery.writes import ResourceWriter

_log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
R = TypeVar("R")

_WRITES: Final = ("Create", "Update", "Apply", "UpdateStatus")


class ResourceServer:
    """Serves one kind. ``cache.run`` must run beside it."""

    def __init__(
        self,
        kind: ResourceKind,
        store: Store,
        *,
        limits: CacheLimits | None = None,
        timing: WatchTiming = DEFAULT_TIMING,
    ) -> None:
        self.info = kind.info
        self.cache = WatchCache(kind.info, store, limits)
        self.writer: ResourceWriter[Message] = ResourceWriter(kind, store, on_commit=self._committed)
        self._store = store
        self._timing = timing
        self._extra: Mapping[str, ExtraMethod] = kind.hooks.extra_methods(self.writer)
        # Newest revision that was written through this server: a watch begins no earlier.
        self._written = 0

    def _committed(self, revision: int) -> None:
        self._written = max(self._written, revision)

    def handler(self) -> grpc.GenericRpcHandler:
        """Handler of the kind's service. Domain verbs that the hooks lack answer UNIMPLEMENTED.

        Raises TypeError if the hooks have a method that the contract lacks.
        """
        methods: dict[str, Any] = {}
        verbs: Mapping[str, Callable[[Any], Awaitable[Message | bytes]]] = {
            "Get": self._get,
            "List": self._list,
            "Delete": self._delete,
            "AddFinalizer": self._add_finalizer,
            "RemoveFinalizer": self._remove_finalizer,
            **{verb: self._write_verb(verb) for verb in _WRITES},
        }
        for name, method in self.info.methods.items():
            request_class = message_factory.GetMessageClass(method.input_type)
            if name == "Watch":
                methods[name] = grpc.unary_stream_rpc_method_handler(self._watch)
            elif name in verbs:
                methods[name] = grpc.unary_unary_rpc_method_handler(_unary(request_class, _no_context(verbs[name])))
            elif name in self._extra:
                methods[name] = grpc.unary_unary_rpc_method_handler(_unary(request_class, self._extra[name]))
        unknown = self._extra.keys() - self.info.methods.keys()
        if unknown:
            raise TypeError(f"{self.info.service_name} has no methods {', '.join(sorted(unknown))}")
        return grpc.method_handlers_generic_handler(self.info.service_name, methods)

    async def _get(self, request: meta_pb2.GetRequest) -> bytes:
        namespace = self.info.namespace_or_default(request.namespace)
        stored = await self._store.get(self.info.key(namespace, request.name))
        if stored is None:
            ref = self.info.ref(namespace, request.name)
            raise NotFound(f"{ref} does not exist", resource=ref)
        return with_revision(stored.value, stored.mod_revision)

    async def _list(self, request: meta_pb2.ListRequest) -> bytes:
        selector = request.label_selector if request.HasField("label_selector") else None
        wanted = make_filter(self.info, request.namespace, selector, request.field_selector)
        return await list_page(self._store, self.cache, wanted, request.page_size, request.page_token)

    def _write_verb(self, verb: str) -> Callable[[Any], Awaitable[Message]]:
        write = {
            "Create": self.writer.create,
            "Update": self.writer.update,
            "Apply": self.writer.apply,
            "UpdateStatus": self.writer.update_status,
        }[verb]

        async def handle(request: Any) -> Message:
            if not request.HasField("object"):
                raise InvalidArgument(f"{verb} needs an object", violations=[FieldViolation("object", "is required")])
            return await write(request.object, request.options)

        return handle

    async def _delete(self, request: meta_pb2.DeleteRequest) -> Message:
        return await self.writer.delete(request)

    async def _add_finalizer(self, request: meta_pb2.FinalizerRequest) -> Message:
        return await self.writer.add_finalizer(request)

    async def _remove_finalizer(self, request: meta_pb2.FinalizerRequest) -> Message:
        return await self.writer.remove_finalizer(request)

    async def _watch(self, raw: bytes, context: Context) -> AsyncGenerator[bytes]:
        try:
            request = _parse(meta_pb2.WatchRequest, raw)
            if request.resource_version < 0:
                violation = FieldViolation("resource_version", "must not be negative")
                raise InvalidArgument("watch request is not valid", violations=[violation])
            selector = request.label_selector if request.HasField("label_selector") else None
            wanted = make_filter(self.info, request.namespace, selector, request.field_selector)
            responses = watch_responses(
                self.cache,
                self._store,
                wanted,
                request.resource_version,
                at_least=self._written,
                timing=self._timing,
            )
            try:
                async for response in responses:
                    yield response
            finally:
                await responses.aclose()
        except Exception as error:
            await _abort(context, error, f"{self.info.service_name}/Watch")


def _no_context(handle: Callable[[Any], Awaitable[R]]) -> Callable[[Any, Context], Awaitable[R]]:
    async def with_context(request: Any, _: Context) -> R:
        return await handle(request)

    return with_context


def _parse(request_class: type[Any], raw: bytes) -> Any:
    """The request without fields that this version does not know. Raises InvalidArgument."""
    try:
        request = request_class.FromString(raw)
    except DecodeError:
        raise InvalidArgument(f"request is not a {request_class.DESCRIPTOR.full_name}") from None
    request.DiscardUnknownFields()
    return request


def _unary(
    request_class: type[Message], handle: Callable[[Any, Context], Awaitable[Message | bytes]]
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    """Handler on wire bytes. Field rules of the request are checked, those of an object in it are left to the write."""
    checked = "object" not in request_class.DESCRIPTOR.fields_by_name

    async def call(raw: bytes, context: Context) -> bytes:
        try:
            request = _parse(request_class, raw)
            if checked:
                violations = list(check_rules(request))
                if violations:
                    raise InvalidArgument("request is not valid", violations=violations)
            for key, value in context.invocation_metadata() or ():
                if key == HEADER:
                    current_fence.set(Fence.parse(str(value)))
            response = await handle(request, context)
        except Exception as error:
            await _abort(context, error, request_class.DESCRIPTOR.name)
        return response if isinstance(response, bytes) else response.SerializeToString()

    return call


async def _abort(context: Context, error: Exception, what: str) -> NoReturn:
    """Ends the call with the error's status and details; anything but an ApiError is a defect and is logged."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, ApiError):
        _log.error("call failed by a defect", call=what, exc_info=error)
        error = Internal("the server failed; its log has the details")
    await context.abort(error.code, error.details(), cast(Any, error.trailing_metadata()))
    raise AssertionError("abort raises")
