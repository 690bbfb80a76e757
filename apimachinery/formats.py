"""Textual formats of string fields: check and canonical form. Pure."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Final

from ironcore.meta.v1 import options_pb2

MAX_LABEL_VALUE: Final = 63

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def check_dns_label(text: str) -> str | None:
    """RFC 1123 label."""
    if _DNS_LABEL.fullmatch(text):
        return None
    return "must be a DNS label: at most 63 characters of [a-z0-9-], beginning and ending with a letter or digit"


def check_dns_subdomain(text: str) -> str | None:
    """RFC 1123 subdomain."""
    if len(text) <= 253 and _DNS_SUBDOMAIN.fullmatch(text):
        return None
    return "must be a DNS subdomain: labels of [a-z0-9-] joined by dots, at most 253 characters"


def check_label_key(text: str) -> str | None:
    """Optional DNS subdomain and "/", then a name."""
    prefix, slash, name = text.rpartition("/")
    if _LABEL_NAME.fullmatch(name) and (not slash or check_dns_subdomain(prefix) is None):
        return None
    return "must be [<dns subdomain>/]<name>, the name at most 63 characters of [A-Za-z0-9-_.] with alphanumeric ends"


def check_label_value(text: str) -> str | None:
    """Empty, or like the name of a label key."""
    if not text or _LABEL_NAME.fullmatch(text):
        return None
    return f"must be at most {MAX_LABEL_VALUE} characters of [A-Za-z0-9-_.] with alphanumeric ends"


def check_ip(text: str) -> str | None:
    """IPv4 or IPv6 address without zone."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "must be an IPv4 or IPv6 address"
    if address.version == 6 and address.scope_id is not None:
        return "must be an address without zone"
    return None


def check_ip_or_dns_subdomain(text: str) -> str | None:
    """Address or RFC 1123 subdomain."""
    if check_ip(text) is None or check_dns_subdomain(text) is None:
        return None
    return "must be an address or a DNS subdomain"


def check_ipv6(text: str) -> str | None:
    """IPv6 address in canonical form (RFC 5952), without zone."""
    if check_ip(text) is None and ":" in text and canonical_ip(text) == text:
        return None
    return "must be an IPv6 address in canonical form"


def check_cidr(text: str) -> str | None:
    """Address "/" prefix length; host bits may be set."""
    address, slash, length = text.partition("/")
    if not slash or check_ip(address) is not None or not re.fullmatch(r"0|[1-9][0-9]{0,2}", length):
        return 'must be <address>/<prefix length>, for example "10.0.0.0/8"'
    if int(length) > ipaddress.ip_address(address).max_prefixlen:
        return f"has a prefix length beyond {ipaddress.ip_address(address).max_prefixlen}"
    return None


def check_network(text: str) -> str | None:
    """CIDR whose host bits are zero."""
    wrong = check_cidr(text)
    if wrong is None and ipaddress.ip_interface(text).network.network_address != ipaddress.ip_interface(text).ip:
        return f"has host bits set; the network is {ipaddress.ip_interface(text).network}"
    return wrong


def check_uuid(text: str) -> str | None:
    """RFC 4122 text, lower or upper case."""
    try:
        canonical = str(uuid.UUID(text))
    except ValueError:
        canonical = ""
    return None if canonical == text.lower() else "must be a UUID"


def canonical_ip(text: str) -> str:
    """RFC 5952 form of a valid address; anything else as it is."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def canonical_cidr(text: str) -> str:
    """Canonical address with its prefix length; anything invalid as it is."""
    if check_cidr(text) is not None:
        return text
    address, _, length = text.partition("/")
    return f"{canonical_ip(address)}/{length}"


Check = Callable[[str], str | None]

# What is wrong with a non-empty text, or None.
CHECKS: Final[Mapping[options_pb2.Format.ValueType, Check]] = {
    options_pb2.FORMAT_IP: check_ip,
    options_pb2.FORMAT_CIDR: check_cidr,
    options_pb2.FORMAT_DNS_LABEL: check_dns_label,
    options_pb2.FORMAT_DNS_SUBDOMAIN: check_dns_subdomain,
    options_pb2.FORMAT_LABEL_KEY: check_label_key,
    options_pb2.FORMAT_UUID: check_uuid,
    options_pb2.FORMAT_IPV6: check_ipv6,
    options_pb2.FORMAT_NETWORK: check_network,
    options_pb2.FORMAT_IP_OR_DNS_SUBDOMAIN: check_ip_or_dns_subdomain,
}

# Formats that are stored in one spelling only. FORMAT_IPV6 is not among them: it admits no other spelling.
CANONICAL: Final[Mapping[options_pb2.Format.ValueType, Callable[[str], str]]] = {
    options_pb2.FORMAT_IP: canonical_ip,
    options_pb2.FORMAT_CIDR: canonical_cidr,
    options_pb2.FORMAT_NETWORK: canonical_cidr,
}
