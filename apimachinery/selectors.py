"""Label and field selectors: evaluation, checks, and the text form of the command line. Pure.

A selector in an object's spec selects nothing when it is absent and everything when it is empty. In a list or watch
request an absent selector does not restrict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ironcore.meta.v1 import meta_pb2, options_pb2

from apimachinery.errors import FieldViolation, InvalidArgument
from apimachinery.scheme import KindInfo, resolve_path

LabelPredicate = Callable[[Mapping[str, str]], bool]

MAX_REQUIREMENTS: Final = 64
MAX_VALUES: Final = 1000

_IN = meta_pb2.SELECTOR_OPERATOR_IN
_NOT_IN = meta_pb2.SELECTOR_OPERATOR_NOT_IN
_EXISTS = meta_pb2.SELECTOR_OPERATOR_EXISTS
_DOES_NOT_EXIST = meta_pb2.SELECTOR_OPERATOR_DOES_NOT_EXIST
_GT = meta_pb2.SELECTOR_OPERATOR_GT
_LT = meta_pb2.SELECTOR_OPERATOR_LT


def selects(selector: meta_pb2.LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether a selector of an object's spec selects these labels; None (absent) selects nothing."""
    return selector is not None and compile_labels(selector)(labels)


def compile_labels(selector: meta_pb2.LabelSelector) -> LabelPredicate:
    """A predicate for many evaluations. The selector must be valid (see :func:`check_label_selector`)."""
    wanted = dict(selector.match_labels)
    checks = tuple(_compile(requirement) for requirement in selector.match_expressions)

    def matches(labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in wanted.items()) and all(check(labels) for check in checks)

    return matches


def _compile(requirement: meta_pb2.LabelSelectorRequirement) -> LabelPredicate:
    key, values = requirement.key, frozenset(requirement.values)
    match requirement.operator:
        case meta_pb2.SELECTOR_OPERATOR_IN:
            return lambda labels: key in labels and labels[key] in values
        case meta_pb2.SELECTOR_OPERATOR_NOT_IN:
            return lambda labels: key not in labels or labels[key] not in values
        case meta_pb2.SELECTOR_OPERATOR_EXISTS:
            return lambda labels: key in labels
        case meta_pb2.SELECTOR_OPERATOR_DOES_NOT_EXIST:
            return lambda labels: key not in labels
        case meta_pb2.SELECTOR_OPERATOR_GT | meta_pb2.SELECTOR_OPERATOR_LT:
            bound, greater = int(requirement.values[0]), requirement.operator == _GT

            def compare(labels: Mapping[str, str]) -> bool:
                number = _integer(labels.get(key, ""))
                return number is not None and (number > bound if greater else number < bound)

            return compare
    raise InvalidArgument(f"unknown selector operator {requirement.operator}")


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


def check_label_selector(selector: meta_pb2.LabelSelector, path: str) -> Iterable[FieldViolation]:
    """What is wrong with a selector; ``path`` is where it stands ("label_selector", "spec.selector")."""
    if len(selector.match_labels) + len(selector.match_expressions) > MAX_REQUIREMENTS:
        yield FieldViolation(path, f"has more than {MAX_REQUIREMENTS} requirements")
        return
    for index, requirement in enumerate(selector.match_expressions):
        at = f"{path}.match_expressions[{index}]"
        if not requirement.key:
            yield FieldViolation(f"{at}.key", "is required")
        values = len(requirement.values)
        if requirement.operator in (_IN, _NOT_IN):
            if not 1 <= values <= MAX_VALUES:
                yield FieldViolation(f"{at}.values", f"must have 1 to {MAX_VALUES} entries for In and NotIn")
        elif requirement.operator in (_EXISTS, _DOES_NOT_EXIST):
            if values:
                yield FieldViolation(f"{at}.values", "must be empty for Exists and DoesNotExist")
        elif requirement.operator in (_GT, _LT):
            if values != 1 or _integer(requirement.values[0]) is None:
                yield FieldViolation(f"{at}.values", "must be one integer for Gt and Lt")
        else:
            yield FieldViolation(f"{at}.operator", "must be one of In, NotIn, Exists, DoesNotExist, Gt, Lt")


def check_field_selector(info: KindInfo, requirements: Sequence[meta_pb2.FieldRequirement]) -> Iterable[FieldViolation]:
    """What is wrong with the field selector of a list or watch request for this kind."""
    if len(requirements) > MAX_REQUIREMENTS:
        yield FieldViolation("field_selector", f"has more than {MAX_REQUIREMENTS} requirements")
        return
    for index, requirement in enumerate(requirements):
        if requirement.field not in info.indexed_fields:
            known = ", ".join(info.indexed_fields)
            yield FieldViolation(f"field_selector[{index}].field", f"must be one of {known}")


FieldValues = Callable[[Message], tuple[str, ...]]


@cache
def field_reader(descriptor: Descriptor, path: str) -> FieldValues:
    """Reads the values at a dotted path as text, through lists; enums as their manifest text.

    An unset scalar reads as "" so that a selector can ask for objects without a value.
    """
    return _reader(resolve_path(descriptor, path))


def _reader(fields: tuple[FieldDescriptor, ...]) -> FieldValues:
    head, rest = fields[0], fields[1:]
    name = head.name
    if rest:
        inner = _reader(rest)
        if head.is_repeated:
            return lambda message: tuple(value for element in getattr(message, name) for value in inner(element))
        return lambda message: inner(getattr(message, name))
    text = _text_of(head)
    if head.is_repeated:
        return lambda message: tuple(text(value) for value in getattr(message, name))
    return lambda message: (text(getattr(message, name)),)


def _text_of(field: FieldDescriptor) -> Callable[[Any], str]:
    if field.enum_type is not None:
        texts = enum_texts(field.enum_type)
        return lambda value: texts.get(value, str(value))
    if field.message_type is meta_pb2.LabelSelector.DESCRIPTOR:
        return format_label_selector
    if field.message_type is Timestamp.DESCRIPTOR:
        return lambda value: cast(Timestamp, value).ToJsonString() if value.ByteSize() else ""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return lambda value: "true" if value else "false"
    if field.type == FieldDescriptor.TYPE_STRING:
        return lambda value: cast(str, value)
    return lambda value: "" if value == 0 and not field.has_presence else str(value)


@cache
def enum_texts(enum: EnumDescriptor) -> Mapping[int, str]:
    """Manifest text of each value of an enum; the zero value without a text reads as ""."""
    return {
        value.number: value.GetOptions().Extensions[options_pb2.text] or ("" if value.number == 0 else value.name)
        for value in enum.values
    }


def matches_field(requirement: meta_pb2.FieldRequirement, values: Sequence[str]) -> bool:
    """Whether the values at the requirement's path satisfy it; a list matches if any element does."""
    equal = requirement.value in values if requirement.value else not any(values)
    return equal != requirement.negate


_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"(?P<key>{_NAME})\s+(?P<op>in|notin)\s*\(\s*(?P<values>[^()]*)\)")
_EQUALITY = re.compile(rf"(?P<key>{_NAME})\s*(?P<op>==|=|!=|>|<)\s*(?P<value>[-A-Za-z0-9_.]*)")
_PRESENCE = re.compile(rf"(?P<op>!?)\s*(?P<key>{_NAME})")


def parse_label_selector(text: str) -> meta_pb2.LabelSelector:
    """``a=b,c!=d,e in (x,y),f notin (z),g,!h,i>5`` to a selector; "" selects everything. Raises InvalidArgument."""
    selector = meta_pb2.LabelSelector()
    rest = text.strip()
    while rest:
        found = _SET.match(rest) or _EQUALITY.match(rest) or _PRESENCE.match(rest)
        end = found.end() if found else 0
        tail = rest[end:].lstrip()
        if found is None or (tail and not tail.startswith(",")) or tail == ",":
            raise InvalidArgument(f'label selector "{text}" is not understood from "{rest}" on')
        key, operator = found["key"], found["op"]
        if operator in ("in", "notin"):
            values = [value.strip() for value in found["values"].split(",")]
            _require(selector, key, _IN if operator == "in" else _NOT_IN, values)
        elif operator in ("=", "=="):
            if selector.match_labels.get(key, found["value"]) != found["value"]:
                _require(selector, key, _IN, [found["value"]])
            else:
                selector.match_labels[key] = found["value"]
        elif operator == "!=":
            _require(selector, key, _NOT_IN, [found["value"]])
        elif operator in ("<", ">"):
            _require(selector, key, _GT if operator == ">" else _LT, [found["value"]])
        else:
            _require(selector, key, _DOES_NOT_EXIST if operator == "!" else _EXISTS, [])
        rest = tail[1:].lstrip()
    violations = tuple(check_label_selector(selector, "label selector"))
    if violations:
        raise InvalidArgument(f'label selector "{text}" is not valid', violations=violations)
    return selector


def _require(
    selector: meta_pb2.LabelSelector, key: str, operator: meta_pb2.SelectorOperator.ValueType, values: list[str]
) -> None:
    selector.match_expressions.add(key=key, operator=operator, values=values)


def format_label_selector(selector: meta_pb2.LabelSelector) -> str:
    """The text that :func:`parse_label_selector` understands."""
    parts = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    for requirement in selector.match_expressions:
        key, values = requirement.key, ",".join(requirement.values)
        match requirement.operator:
            case meta_pb2.SELECTOR_OPERATOR_IN:
                parts.append(f"{key} in ({values})")
            case meta_pb2.SELECTOR_OPERATOR_NOT_IN:
                parts.append(f"{key} notin ({values})")
            case meta_pb2.SELECTOR_OPERATOR_EXISTS:
                parts.append(key)
            case meta_pb2.SELECTOR_OPERATOR_DOES_NOT_EXIST:
                parts.append(f"!{key}")
            case meta_pb2.SELECTOR_OPERATOR_GT:
                parts.append(f"{key}>{values}")
            case meta_pb2.SELECTOR_OPERATOR_LT:
                parts.append(f"{key}<{values}")
    return ",".join(parts)


def parse_field_selector(text: str, info: KindInfo) -> list[meta_pb2.FieldRequirement]:
    """``spec.node_ref.name=x,metadata.name!=y`` to requirements; manifest names ("spec.nodeRef.name") are accepted too.

    Raises InvalidArgument that names the selectable fields.
    """
    names = {
        **{_manifest_path(info, path): path for path in info.indexed_fields},
        **{p: p for p in info.indexed_fields},
    }
    requirements = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = re.fullmatch(r"(?P<field>[A-Za-z0-9_.]+)\s*(?P<op>==|=|!=)\s*(?P<value>.*)", part)
        if found is None:
            raise InvalidArgument(f'field selector "{part}" must be field=value or field!=value')
        path = names.get(found["field"])
        if path is None:
            known = ", ".join(info.indexed_fields)
            raise InvalidArgument(f'{info.resource_type} cannot be selected by "{found["field"]}", only by {known}')
        negate = found["op"] == "!="
        requirements.append(meta_pb2.FieldRequirement(field=path, value=found["value"], negate=negate))
    return requirements


def _manifest_path(info: KindInfo, path: str) -> str:
    return ".".join(field.json_name for field in resolve_path(info.descriptor, path))
