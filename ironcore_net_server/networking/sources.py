"""Addresses and ranges that are literals or come from ephemeral objects: defaults and rules. Pure."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence, Sequence

from ironcore.ipam.v1 import prefix_pb2
from ironcore.networking.v1 import sources_pb2

from apimachinery.errors import FieldViolation
from apimachinery.formats import check_dns_subdomain
from ironcore_net_server.ipam.prefix import check_range
from ironcore_net_server.rules import (
    FAMILY_TEXT,
    Family,
    address_bits,
    check_family,
    check_one_per_family,
    check_selector,
    check_template_metadata,
    family_of,
    parse_cidr,
)


def default_families(families: MutableSequence[Family], ips: Sequence[sources_pb2.IPSource]) -> None:
    """Derives families from addresses or the families of templates from families, and completes templates. In place.

    An address template without range and length asks for one address.
    """
    if not families:
        for source in ips:
            family = _declared_family(source)
            if family is None:
                # Cannot be told for this one: leave all of them to the rule that the field is required.
                del families[:]
                break
            families.append(family)
    for index, source in enumerate(ips):
        if not source.HasField("ephemeral"):
            continue
        spec = source.ephemeral.prefix_template.spec
        if not spec.ip_family and len(families) == len(ips):
            spec.ip_family = families[index]
        if spec.ip_family and not spec.prefix and not spec.prefix_length:
            spec.prefix_length = address_bits(spec.ip_family)


def default_prefixes(prefixes: Sequence[sources_pb2.PrefixSource]) -> None:
    """Derives the family of range templates from their range. In place."""
    for source in prefixes:
        if source.HasField("ephemeral"):
            spec = source.ephemeral.prefix_template.spec
            family = family_of(spec.prefix)
            if not spec.ip_family and family is not None:
                spec.ip_family = family


def _declared_family(source: sources_pb2.IPSource) -> Family | None:
    if source.value:
        return family_of(source.value)
    spec = source.ephemeral.prefix_template.spec
    return spec.ip_family or family_of(spec.prefix)


def check_ips(
    families: Sequence[int], ips: Sequence[sources_pb2.IPSource], owner: str, *, needs_all: bool
) -> Iterator[FieldViolation]:
    """Address i has family i; templates ask for exactly one address; names of derived Prefix objects are valid.

    needs_all: every family has its address. owner: name of the object that has the addresses.
    """
    if needs_all and len(ips) != len(families):
        yield FieldViolation("spec.ips", f"has {len(ips)} entries for {len(families)} families")
        return
    actual = [_declared_family(source) for source in ips]
    yield from check_one_per_family(actual, "spec.ips[{}]", "address")
    for index, source in enumerate(ips):
        at = f"spec.ips[{index}]"
        family = families[index] if index < len(families) else 0
        if source.value:
            yield from check_family(source.value, family, f"{at}.value")
        elif source.HasField("ephemeral"):
            yield from _check_address_template(source.ephemeral, family, f"{at}.ephemeral", f"{owner}-{index}")


def check_prefixes(prefixes: Sequence[sources_pb2.PrefixSource], owner: str) -> Iterator[FieldViolation]:
    """Range templates are valid; names of derived Prefix objects are valid."""
    for index, source in enumerate(prefixes):
        if source.HasField("ephemeral"):
            at = f"spec.prefixes[{index}].ephemeral"
            yield from _check_template(source.ephemeral, at, f"{owner}-pf-{index}")


def _check_template(source: sources_pb2.EphemeralPrefixSource, at: str, name: str) -> Iterator[FieldViolation]:
    template = source.prefix_template
    at = f"{at}.prefix_template"
    yield from check_template_metadata(template.metadata, f"{at}.metadata")
    yield from check_range(template.spec, f"{at}.spec")
    yield from check_selector(template.spec, "parent_selector", f"{at}.spec")
    if check_dns_subdomain(name) is not None:
        yield FieldViolation(at, f'the derived name "{name}" is not a DNS subdomain')


def _check_address_template(
    source: sources_pb2.EphemeralPrefixSource, family: int, at: str, name: str
) -> Iterator[FieldViolation]:
    yield from _check_template(source, at, name)
    spec: prefix_pb2.PrefixSpec = source.prefix_template.spec
    at = f"{at}.prefix_template.spec"
    if spec.ip_family in FAMILY_TEXT and family in FAMILY_TEXT and spec.ip_family != family:
        yield FieldViolation(f"{at}.ip_family", f"is {FAMILY_TEXT[spec.ip_family]}, not {FAMILY_TEXT[family]}")
        return
    if spec.ip_family not in FAMILY_TEXT:
        return
    bits = address_bits(spec.ip_family)
    parsed = parse_cidr(spec.prefix)
    if parsed is not None and parsed.network.prefixlen != bits:
        yield FieldViolation(f"{at}.prefix", "must be a single address")
    if spec.prefix_length not in (0, bits):
        yield FieldViolation(f"{at}.prefix_length", f"must be {bits}")
