"""Fences as text: what peers send is bounded and limited to elections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.errors import InvalidArgument
from apimachinery.fencing import ELECTIONS, Fence


@given(st.text(max_size=50), st.integers(1, 10**18 - 1))
def test_text_and_back(name: str, revision: int) -> None:
    fence = Fence(ELECTIONS + name, revision)
    assert Fence.parse(str(fence)) == fence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/elections/a",
        "/elections/a@",
        "/elections/a@0",
        "/elections/a@-1",
        "/elections/a@1x",
        "/elections/a@٣",
        "/elections/a@" + "9" * 19,
        "/networking/networks/default/a@5",
        "/elections/" + "x" * 600 + "@5",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Fence.parse(text)
