"""Rules that kinds of several groups share, as functions of values. Pure.

Field options have been checked before any of these is called, but all violations of an object are reported together, so
every function must stand a value that broke an option: whatever cannot be read is skipped, because it was reported.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2, types_pb2

from apimachinery.errors import FieldViolation
from apimachinery.selectors import check_label_selector, compile_labels
from apimachinery.validation import check_annotations, check_labels

IPV4 = types_pb2.IP_FAMILY_IPV4
IPV6 = types_pb2.IP_FAMILY_IPV6
FAMILY_TEXT: Mapping[int, str] = {IPV4: "IPv4", IPV6: "IPv6"}

Family: TypeAlias = "types_pb2.IPFamily.ValueType"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def parse_ip(text: str) -> Address | None:
    """The address, or None if the text is not one."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def parse_cidr(text: str) -> Interface | None:
    """Address with prefix length, or None if the text is not one."""
    try:
        return ipaddress.ip_interface(text) if "/" in text else None
    except ValueError:
        return None


def family_of(text: str) -> Family | None:
    """Family of an address or CIDR, or None if the text is neither. IPv4-mapped IPv6 addresses are IPv6."""
    parsed = parse_cidr(text) if "/" in text else parse_ip(text)
    if parsed is None:
        return None
    return IPV4 if parsed.version == 4 else IPV6


def address_bits(family: int) -> int:
    """Bits of an address: 32 or 128."""
    return 32 if family == IPV4 else 128


def check_family(text: str, family: int, path: str) -> Iterator[FieldViolation]:
    """The address or CIDR, if set, belongs to the family."""
    actual = family_of(text) if text else None
    if actual is not None and family in FAMILY_TEXT and actual != family:
        yield FieldViolation(path, f"is {FAMILY_TEXT[actual]}, not {FAMILY_TEXT[family]}")


def check_one_per_family(families: Iterable[int | None], path: str, what: str) -> Iterator[FieldViolation]:
    """No known family appears twice; `path` is formatted with the index: ``spec.ips[{}]``."""
    seen: set[int] = set()
    for index, family in enumerate(families):
        if family is None or family not in FAMILY_TEXT:
            continue
        if family in seen:
            yield FieldViolation(path.format(index), f"is a second {FAMILY_TEXT[family]} {what}; one is allowed")
        seen.add(family)


def port_bounds(port: types_pb2.PortRange) -> tuple[int, int]:
    """First and last port, both inclusive."""
    return port.port, port.end_port or port.port


def _transport(port: types_pb2.PortRange) -> int:
    return port.protocol or types_pb2.PROTOCOL_TCP


def check_balanced_ports(ports: Sequence[types_pb2.PortRange], path: str) -> Iterator[FieldViolation]:
    """Ports of a load balancer: each has a number, ends after it begins, and no two of one protocol overlap."""
    ranges: dict[int, list[tuple[int, int, int]]] = {}
    for index, port in enumerate(ports):
        at = f"{path}[{index}]"
        if not port.port:
            yield FieldViolation(f"{at}.port", "is required")
            continue
        yield from _check_end(port, at)
        ranges.setdefault(_transport(port), []).append((*port_bounds(port), index))
    for of_protocol in ranges.values():
        for index, other in overlaps(of_protocol):
            yield FieldViolation(f"{path}[{index}]", f"overlaps with {path}[{other}]")


def overlaps(ranges: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """(index, other index) of each (first, last, index) that overlaps with one that begins before it."""
    reach, reached_by = -1, -1
    for first, last, index in sorted(ranges):
        if first <= reach:
            yield max(index, reached_by), min(index, reached_by)
        if last > reach:
            reach, reached_by = last, index


def check_policy_ports(ports: Sequence[types_pb2.PortRange], path: str) -> Iterator[FieldViolation]:
    """Ports of a policy rule: a last port needs a first one and does not lie before it."""
    for index, port in enumerate(ports):
        at = f"{path}[{index}]"
        if port.end_port and not port.port:
            yield FieldViolation(f"{at}.end_port", "needs a port")
        else:
            yield from _check_end(port, at)


def _check_end(port: types_pb2.PortRange, at: str) -> Iterator[FieldViolation]:
    if port.end_port and port.end_port < port.port:
        yield FieldViolation(f"{at}.end_port", f"must not be less than port {port.port}")


def check_ip_block(block: types_pb2.IPBlock, path: str) -> Iterator[FieldViolation]:
    """Each exception lies within the block."""
    outer = parse_cidr(block.cidr)
    if outer is None:
        return
    for index, text in enumerate(block.excluded):
        inner = parse_cidr(text)
        if inner is not None and not contains(outer, inner):
            yield FieldViolation(f"{path}.excluded[{index}]", f"must lie within {block.cidr}")


def contains(outer: Interface, inner: Interface) -> bool:
    """Whether every address of `inner` lies in `outer`."""
    return (
        outer.version == inner.version
        and inner.network.prefixlen >= outer.network.prefixlen
        and inner.network.network_address in outer.network
    )


def bounds(range_: Interface) -> tuple[int, int]:
    """First and last address of a range as numbers."""
    return int(range_.network.network_address), int(range_.network.broadcast_address)


def check_selector(owner: Message, field: str, path: str) -> Iterable[FieldViolation]:
    """The selector in this field of `owner` is well-formed, if it is set."""
    if not owner.HasField(field):
        return ()
    return check_label_selector(getattr(owner, field), f"{path}.{field}")


def check_selects_template(
    selector: meta_pb2.LabelSelector, template: meta_pb2.ObjectMeta, path: str
) -> Iterator[FieldViolation]:
    """The selector is well-formed and selects objects that are made from the template."""
    wrong = list(check_label_selector(selector, path))
    yield from wrong
    if not wrong and not compile_labels(selector)(template.labels):
        yield FieldViolation(path, "must select the labels of the template")


def check_template_metadata(meta: meta_pb2.ObjectMeta, path: str) -> Iterator[FieldViolation]:
    """Metadata of a template: labels and annotations and nothing else."""
    for field, _ in meta.ListFields():
        if field.name not in ("labels", "annotations"):
            yield FieldViolation(
                f"{path}.{field.name}", "must not be set in a template; only labels and annotations are"
            )
    yield from check_labels(meta.labels, f"{path}.labels")
    yield from check_annotations(meta.annotations, f"{path}.annotations")


def check_power_of_two(value: int, path: str) -> Iterator[FieldViolation]:
    """A positive power of two."""
    if value > 0 and value & (value - 1):
        yield FieldViolation(path, "must be a power of two")
