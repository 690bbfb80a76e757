"""Errors of the API: one class per canonical gRPC code, the same on the server and on the client.

A server raises them, the resource server sends them as ``google.rpc.Status`` with details in the trailing metadata
``grpc-status-details-bin``, and :func:`from_rpc_error` turns what arrives back into the same class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage
from google.rpc import error_details_pb2, status_pb2

DOMAIN: Final = "ironcore.dev"
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"
# gRPC clients refuse trailers above 8 KiB, so what goes into one is bounded: number of violations, and bytes of a text.
MAX_VIOLATIONS: Final = 10
MAX_TEXT: Final = 160


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field; ``field`` is a path such as ``spec.ips[1].ip_family``."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


@dataclass(frozen=True, slots=True)
class ResourceRef:
    """The object that an error is about: ``type`` is ``<plural>.<group>``, ``name`` is ``[<namespace>/]<name>``."""

    type: str
    name: str

    def __str__(self) -> str:
        return f'{self.type} "{self.name}"'


class ApiError(Exception):
    """Failure of one API call.

    code:       canonical gRPC code.
    message:    sentence for people.
    violations: fields that are wrong (sent as google.rpc.BadRequest).
    reason:     UPPER_SNAKE_CASE word for programs (google.rpc.ErrorInfo).
    resource:   the object concerned (google.rpc.ResourceInfo).
    exhausted:  name of the pool, table or limit that is full (google.rpc.QuotaFailure).
    metadata:   further facts for programs (ErrorInfo.metadata).
    """

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    default_reason: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        violations: Iterable[FieldViolation] = (),
        reason: str = "",
        resource: ResourceRef | None = None,
        exhausted: str = "",
        metadata: Mapping[str, str] | None = None,
        code: grpc.StatusCode | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.violations = tuple(violations)
        self.reason = reason or self.default_reason
        self.resource = resource
        self.exhausted = exhausted
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        if not self.violations:
            return self.message
        return f"{self.message}: " + "; ".join(str(violation) for violation in self.violations)

    def to_status(self) -> status_pb2.Status:
        """The google.rpc.Status with BadRequest, ResourceInfo, QuotaFailure and ErrorInfo, as far as they apply."""
        details: list[ProtoMessage] = []
        if self.violations:
            shown = self.violations[:MAX_VIOLATIONS]
            details.append(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field=_cut(v.field), description=_cut(v.message))
                        for v in shown
                    ]
                )
            )
        if self.resource is not None:
            details.append(
                error_details_pb2.ResourceInfo(resource_type=self.resource.type, resource_name=_cut(self.resource.name))
            )
        if self.exhausted:
            violation = error_details_pb2.QuotaFailure.Violation(subject=self.exhausted, description=_cut(self.message))
            details.append(error_details_pb2.QuotaFailure(violations=[violation]))
        if self.reason or self.metadata:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata))
        status = status_pb2.Status(code=self.code.value[0], message=_cut(self.message))
        for detail in details:
            status.details.add().Pack(detail)
        return status

    def details(self) -> str:
        """The text of the gRPC status: message and violations, bounded."""
        return _cut(str(self), 4 * MAX_TEXT)

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """Trailing metadata that carries :meth:`to_status`."""
        return ((STATUS_DETAILS_KEY, self.to_status().SerializeToString()),)


def _cut(text: str, limit: int = MAX_TEXT) -> str:
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[:limit].decode(errors="ignore") + "…"


class InvalidArgument(ApiError):
    """The request can never succeed as it is; ``violations`` say where."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID"


class NotFound(ApiError):
    """No such object."""

    default_code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(ApiError):
    """An object of that name exists."""

    default_code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class Conflict(ApiError):
    """Someone else changed the object or owns the field (ABORTED): read again, decide again."""

    default_code = grpc.StatusCode.ABORTED
    default_reason = "CONFLICT"


class FailedPrecondition(ApiError):
    """The system is not in a state in which this may be done; retrying without a change does not help."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class ResourceExhausted(ApiError):
    """A pool, table or limit is full; ``exhausted`` names it."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "RESOURCE_EXHAUSTED"


class Unavailable(ApiError):
    """Store or server cannot be reached now; the same call may succeed later."""

    default_code = grpc.StatusCode.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class Internal(ApiError):
    """A defect of the server; its log has the details."""

    default_code = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"


_BY_CODE: Final[Mapping[grpc.StatusCode, type[ApiError]]] = {
    cls.default_code: cls
    for cls in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        Conflict,
        FailedPrecondition,
        ResourceExhausted,
        Unavailable,
        Internal,
    )
}
_CODE_BY_NUMBER: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


def from_status(status: status_pb2.Status) -> ApiError:
    """The error that :meth:`ApiError.to_status` described; unknown details are ignored."""
    code = _CODE_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    violations: list[FieldViolation] = []
    reason = exhausted = ""
    resource: ResourceRef | None = None
    metadata: dict[str, str] = {}
    bad_request = error_details_pb2.BadRequest()
    resource_info = error_details_pb2.ResourceInfo()
    quota = error_details_pb2.QuotaFailure()
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if _unpack(detail, bad_request):
            violations += (FieldViolation(v.field, v.description) for v in bad_request.field_violations)
        elif _unpack(detail, resource_info):
            resource = ResourceRef(resource_info.resource_type, resource_info.resource_name)
        elif _unpack(detail, quota):
            exhausted = ", ".join(v.subject for v in quota.violations)
        elif _unpack(detail, info):
            reason, metadata = info.reason, dict(info.metadata)
    return _BY_CODE.get(code, ApiError)(
        status.message,
        violations=violations,
        reason=reason,
        resource=resource,
        exhausted=exhausted,
        metadata=metadata,
        code=code,
    )


def _unpack(detail: any_pb2.Any, into: ProtoMessage) -> bool:
    try:
        return bool(detail.Unpack(into))
    except DecodeError:
        return False


def from_rpc_error(error: grpc.aio.AioRpcError) -> ApiError:
    """The :class:`ApiError` behind a failed call, with details if the peer sent any."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status()
            try:
                status.ParseFromString(value)
            except DecodeError:
                break
            if _CODE_BY_NUMBER.get(status.code) == error.code():
                return from_status(status)
    code = error.code()
    return _BY_CODE.get(code, ApiError)(error.details() or code.name.lower(), code=code)
