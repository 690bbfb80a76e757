"""Checks that several kinds share. Texts that are no address at all were already reported by their field's format."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

from ironcore.meta.v1 import types_pb2

from apimachinery.errors import FieldViolation

IPV4 = types_pb2.IP_FAMILY_IPV4
IPV6 = types_pb2.IP_FAMILY_IPV6

_FAMILY_TEXT = {IPV4: "IPv4", IPV6: "IPv6"}


def family_of(text: str) -> types_pb2.IPFamily.ValueType | None:
    """Family of an address or prefix; None if the text is neither."""
    try:
        version = ip_interface(text).version
    except ValueError:
        return None
    return IPV4 if version == 4 else IPV6


def must_be(family: types_pb2.IPFamily.ValueType, text: str, field: str) -> Iterator[FieldViolation]:
    """A violation if a set address or prefix is of another family."""
    actual = family_of(text) if text else None
    if actual is not None and family in _FAMILY_TEXT and actual != family:
        yield FieldViolation(field, f"{text} is not of family {_FAMILY_TEXT[family]}")


def prefix_length(text: str) -> int | None:
    """Length of a prefix; None if the text is none."""
    try:
        return ip_interface(text).network.prefixlen
    except ValueError:
        return None


def is_host_prefix(text: str) -> bool:
    """True for a /32 or /128, and for a text that is no prefix."""
    try:
        prefix = ip_interface(text)
    except ValueError:
        return True
    return prefix.network.prefixlen == prefix.max_prefixlen


def is_unspecified(text: str) -> bool:
    """True for 0.0.0.0 and ::."""
    try:
        return ip_address(text).is_unspecified
    except ValueError:
        return False
