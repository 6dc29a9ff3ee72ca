"""The items of an array that are whole before its end are found, whatever they are and wherever it ends."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.salvage import whole_items

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=300)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=8,
)


@given(st.lists(values, max_size=6), st.floats(0, 1))
def test_the_items_before_the_end_are_found_and_no_others(items: list[Any], share: float) -> None:
    encoded = [msgspec.msgpack.encode(item) for item in items]
    content = msgspec.msgpack.encode(["batch", items])
    opening = len(content) - sum(map(len, encoded))
    length = int(share * len(content))
    ends = [opening + end for end in accumulate(map(len, encoded))]
    expected = [item for item, end in zip(encoded, ends, strict=True) if end <= length]
    assert list(whole_items(content[:length], path=(1,))) == expected


@given(st.binary(max_size=200))
def test_what_is_no_array_has_no_items_or_ends_somewhere(content: bytes) -> None:
    assert sum(map(len, whole_items(content, path=(1,)))) <= len(content)


LARGE = [
    "x" * 70_000,
    b"x" * 70_000,
    [None] * 70_000,
    {str(key): key for key in range(70_000)},
    "x" * 300,
    list(range(20)),
]


@pytest.mark.parametrize("item", LARGE, ids=lambda item: f"{type(item).__name__}-{len(item)}")
def test_an_item_of_any_size_is_found_once_its_last_byte_is_there(item: Any) -> None:
    content = msgspec.msgpack.encode(["batch", [item]])
    assert list(whole_items(content, path=(1,))) == [msgspec.msgpack.encode(item)]
    assert list(whole_items(content[:-1], path=(1,))) == []


def test_an_array_of_any_length_is_walked() -> None:
    content = msgspec.msgpack.encode(["batch", list(range(70_000))])
    assert sum(1 for _ in whole_items(content[:-1], path=(1,))) == 69_999
