"""Hypothesis strategies for any protobuf message, from its descriptor."""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

# Few, so that maps, keyed lists and two appliers meet on the same names.
WORDS = st.sampled_from(["a", "b", "c", "x.y", "q]r", "s\\t", "10.0.0.1", "true", "1:30", "0x1F", "1e5", "null", "ü ~"])
TEXTS = st.one_of(WORDS, st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=8))


def scalars(field: FieldDescriptor, texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Values of one scalar field; enums only with known numbers."""
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=4) if field.type == FieldDescriptor.TYPE_BYTES else texts
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_INT32:
            return st.integers(-(1 << 31), (1 << 31) - 1)
        case FieldDescriptor.CPPTYPE_INT64:
            # Versions are written as text without a sign.
            return st.integers(0, (1 << 63) - 1)
        case FieldDescriptor.CPPTYPE_UINT32:
            return st.integers(0, (1 << 32) - 1)
        case FieldDescriptor.CPPTYPE_UINT64:
            return st.integers(0, (1 << 64) - 1)
    raise AssertionError(f"no strategy for {field.full_name}")


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, texts: st.SearchStrategy[str] = TEXTS, depth: int = 0) -> Message:
    """Messages of a type with any of their fields set."""
    message = message_factory.GetMessageClass(descriptor)()
    if descriptor.full_name == "google.protobuf.Timestamp":
        message.seconds = draw(st.integers(0, 4_000_000_000))
        return message
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(draw, getattr(message, field.name), field, texts, depth)
        elif field.is_repeated:
            for _ in range(draw(st.integers(0, 2))):
                if field.message_type is not None:
                    getattr(message, field.name).append(draw(messages(field.message_type, texts, depth + 1)))
                else:
                    getattr(message, field.name).append(draw(scalars(field, texts)))
        elif field.message_type is not None:
            if depth < 5:
                getattr(message, field.name).CopyFrom(draw(messages(field.message_type, texts, depth + 1)))
        else:
            setattr(message, field.name, draw(scalars(field, texts)))
    return message


def _fill_map(draw: st.DrawFn, container: Any, field: FieldDescriptor, texts: Any, depth: int) -> None:
    assert field.message_type is not None
    value = field.message_type.fields_by_name["value"]
    for key in draw(st.lists(texts, max_size=2, unique=True)):
        if value.message_type is not None:
            container[key].CopyFrom(draw(messages(value.message_type, texts, depth + 1)))
        else:
            container[key] = draw(scalars(value, texts))
