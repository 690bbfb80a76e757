"""Provider ids: written and read back, and everything else is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.informer import Key
from ironcore_net_server.apinetlet.provider_id import SCHEME, ProviderId, parse_provider_id

PARTS = st.text(st.characters(exclude_characters="/", codec="utf-8"), min_size=1, max_size=12)
UID = "11111111-0000-4000-8000-000000000001"


@given(st.builds(ProviderId, PARTS, PARTS, PARTS, PARTS))
def test_what_was_written_is_read_back(provider_id: ProviderId) -> None:
    assert parse_provider_id(str(provider_id)) == provider_id
    assert str(provider_id).startswith(SCHEME)


@given(st.lists(st.text(st.characters(exclude_characters="/", codec="utf-8"), max_size=4), max_size=8))
def test_it_has_four_parts_and_none_is_empty(parts: list[str]) -> None:
    found = parse_provider_id(SCHEME + "/".join(parts))
    assert (found is not None) == (len(parts) == 4 and all(parts))


@given(st.text(max_size=40))
def test_any_text_is_one_or_none(text: str) -> None:
    found = parse_provider_id(text)
    assert found is None or str(found) == SCHEME + text.removeprefix(SCHEME)


def test_the_scheme_may_be_left_out() -> None:
    found = parse_provider_id(f"fabric/nic-1/p1.h1/{UID}")
    assert found == ProviderId("fabric", "nic-1", "p1.h1", UID)
    assert found.key == Key("fabric", "nic-1")


@pytest.mark.parametrize("text", ["", SCHEME, f"libvirt://fabric/nic-1/p1.h1/{UID}", "a/b/c", "a/b/c/", "a//c/d"])
def test_other_texts_are_none(text: str) -> None:
    assert parse_provider_id(text) is None
