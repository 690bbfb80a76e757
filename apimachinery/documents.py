"""YAML and JSON text to plain values and back, strict and bounded.

YAML is read by the JSON-like rules of YAML 1.2: ``yes``, ``1:30``, ``010`` and dates are strings. Duplicate keys, keys
that are not strings, and documents that grow beyond bounds through aliases are errors with a path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import yaml

from apimachinery.errors import FieldViolation, InvalidArgument

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool | None"

MAX_TEXT: Final = 32 << 20
MAX_NODES: Final = 1_000_000
MAX_DEPTH: Final = 64

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
# A subset of what YAML 1.1 takes for a float: strings that a YAML 1.1 writer leaves unquoted must stay strings.
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*([eE][-+][0-9]+)?")
# Python refuses to convert longer ones; no field holds so many digits.
_MAX_DIGITS: Final = 40


def load_documents(text: str) -> list[Plain]:
    """The documents of a YAML stream or JSON text. Raises InvalidArgument that says where the text is wrong."""
    if len(text) > MAX_TEXT:
        raise InvalidArgument(f"manifest is larger than {MAX_TEXT} bytes")
    if text.lstrip()[:1] in ("{", "["):
        try:
            return [_from_pairs(json.loads(text, object_pairs_hook=_Pairs), "", _Budget())]
        except json.JSONDecodeError:
            # YAML in flow style looks like JSON at first.
            pass
        except (RecursionError, ValueError):
            raise InvalidArgument("JSON text is nested too deeply or has a number that is too long") from None
    try:
        return _YamlReader(text).documents()
    except yaml.YAMLError as error:
        raise InvalidArgument(f"YAML text is not valid: {_one_line(error)}") from None


def document_path(index: int) -> str:
    """How paths begin in the document with this index: the first one needs no number."""
    return f"[{index}]" if index else ""


def _one_line(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return where + " ".join(str(problem).split())


def _invalid(path: str, message: str) -> InvalidArgument:
    return InvalidArgument("manifest is not valid", violations=[FieldViolation(path, message)])


class _Pairs(list[tuple[str, Any]]):
    """A JSON object before its keys were checked."""


class _Budget:
    """Counts values, because aliases let a small text stand for a huge document."""

    def __init__(self) -> None:
        self.left = MAX_NODES

    def spend(self, path: str, depth: int, values: int = 1) -> None:
        self.left -= values
        if self.left < 0:
            raise _invalid(path, f"document has more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise _invalid(path, "is nested too deeply")


def _from_pairs(value: Any, path: str, budget: _Budget, depth: int = 0) -> Plain:
    budget.spend(path, depth)
    if isinstance(value, _Pairs):
        found: dict[str, Plain] = {}
        for key, element in value:
            at = f"{path}.{key}" if path else key
            if key in found:
                raise _invalid(at, "appears twice")
            found[key] = _from_pairs(element, at, budget, depth + 1)
        return found
    if isinstance(value, list):
        return [_from_pairs(element, f"{path}[{i}]", budget, depth + 1) for i, element in enumerate(value)]
    return value  # type: ignore[no-any-return]


class _Anchored(NamedTuple):
    """A value that aliases may repeat, with the number of values in it and their depth."""

    value: Plain
    values: int
    height: int


class _YamlReader:
    """Builds values from parser events: unlike PyYAML's composer, it bounds the depth before it recurses."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.CSafeLoader))
        self._budget = _Budget()
        self._anchors: dict[str, _Anchored] = {}
        # Of the value read last.
        self._height = 0

    def documents(self) -> list[Plain]:
        found: list[Plain] = []
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                found.append(self._value(next(self._events), document_path(len(found)), 0))
        return found

    def _value(self, event: Any, path: str, depth: int) -> Plain:
        self._budget.spend(path, depth)
        if isinstance(event, yaml.AliasEvent):
            return self._repeat(event, path, depth)
        before = self._budget.left
        if isinstance(event, yaml.MappingStartEvent):
            value: Plain = self._mapping(path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path, depth)
        else:
            value, self._height = _scalar(event, path), 0
        if event.anchor:
            self._anchors[event.anchor] = _Anchored(value, before - self._budget.left, self._height)
        return value

    def _repeat(self, event: Any, path: str, depth: int) -> Plain:
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            raise _invalid(path, f"repeats &{event.anchor}, which is not complete or does not exist")
        self._height = anchored.height
        self._budget.spend(path, depth + anchored.height, anchored.values)
        return anchored.value

    def _mapping(self, path: str, depth: int) -> dict[str, Plain]:
        found: dict[str, Plain] = {}
        height = 0
        for event in self._until(yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise _invalid(path, f"has a key that is not a string (line {line})")
            at = f"{path}.{event.value}" if path else event.value
            if event.value in found:
                raise _invalid(at, f"appears twice (line {line})")
            found[event.value] = self._value(next(self._events), at, depth + 1)
            height = max(height, self._height + 1)
        self._height = height
        return found

    def _sequence(self, path: str, depth: int) -> list[Plain]:
        found: list[Plain] = []
        height = 0
        for event in self._until(yaml.SequenceEndEvent):
            found.append(self._value(event, f"{path}[{len(found)}]", depth + 1))
            height = max(height, self._height + 1)
        self._height = height
        return found

    def _until(self, end: type[Any]) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event


def _scalar(event: Any, path: str) -> Plain:
    text: str = event.value
    # Quoted and block scalars are strings, and so is everything with the tag !!str.
    if event.style or event.tag == "tag:yaml.org,2002:str":
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text) or _HEX.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise _invalid(path, "is a number that is too long")
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Hashable) -> bool:
        return True


def dump_yaml(documents: Sequence[Plain]) -> str:
    """YAML text with the keys in the order given."""
    dumped: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return dumped


def dump_json(document: Plain) -> str:
    """Indented JSON text with a newline at its end."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
