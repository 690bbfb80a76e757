"""YAML and JSON text to plain values and back, strict and bounded.

YAML is read by the JSON-like rules of YAML 1.2: ``yes``, ``1:30``, ``010`` and dates are strings. Duplicate keys, keys
that are not strings, and documents that grow beyond bounds through aliases are errors with a path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence
from typing import Any, Final, TypeAlias, cast

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
        budget = _Budget()
        nodes = list(yaml.compose_all(text, Loader=yaml.CSafeLoader))
        several = len(nodes) > 1
        return [_from_node(node, f"[{i}]" if several else "", budget, 0) for i, node in enumerate(nodes)]
    except yaml.YAMLError as error:
        raise InvalidArgument(f"YAML text is not valid: {_one_line(error)}") from None
    except RecursionError:
        raise InvalidArgument("YAML text is nested too deeply") from None


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

    def spend(self, path: str, depth: int) -> None:
        self.left -= 1
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


def _from_node(node: yaml.Node, path: str, budget: _Budget, depth: int) -> Plain:
    budget.spend(path, depth)
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Plain] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _invalid(path, f"has a key that is not a string (line {key_node.start_mark.line + 1})")
            key = key_node.value
            at = f"{path}.{key}" if path else key
            if key in found:
                raise _invalid(at, f"appears twice (line {key_node.start_mark.line + 1})")
            found[key] = _from_node(value_node, at, budget, depth + 1)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_from_node(child, f"{path}[{i}]", budget, depth + 1) for i, child in enumerate(node.value)]
    return _scalar(cast(yaml.ScalarNode, node), path)


def _scalar(node: yaml.ScalarNode, path: str) -> Plain:
    text: str = node.value
    # The C parser gives plain scalars the style "". Quoted and block scalars are strings, as is anything tagged !!str.
    if node.style or node.tag == "tag:yaml.org,2002:str":
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
