"""A gRPC client that knows nothing in advance: messages and calls are what the server's reflection says."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

_SECONDS = 10.0


class ReflectedService:
    """One service of a server. Raises KeyError if the server does not have it, grpc.RpcError as usual."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        self._channel = channel
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self._service: ServiceDescriptor = pool.FindServiceByName(name)

    @property
    def descriptor(self) -> ServiceDescriptor:
        """The service as the server describes it."""
        return self._service

    def call(self, method: str, **fields: Any) -> dict[str, Any]:
        """A unary call; request fields and the answer in JSON form, with the names of the proto file."""
        found: MethodDescriptor = self._service.methods_by_name[method]
        request = ParseDict(fields, GetMessageClass(found.input_type)())
        invoke = self._channel.unary_unary(
            f"/{self._service.full_name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(found.output_type).FromString,
        )
        return MessageToDict(invoke(request, timeout=_SECONDS), preserving_proto_field_name=True)
