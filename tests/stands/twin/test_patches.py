"""Patches do what their standards and Kubernetes' merge keys say, and leave the old document alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.stands.twin.patches import (
    PatchError,
    UnprocessablePatch,
    json_patch,
    merge_patch,
    strategic_merge_patch,
)

JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(), st.text("ab", max_size=2)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4)


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [  # cases of RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
    ],
)
def test_merge_patch_follows_its_standard(document: Any, patch: Any, expected: Any) -> None:
    assert merge_patch(document, patch) == expected


@given(OBJECTS, OBJECTS)
def test_a_merge_twice_is_a_merge_once_and_the_document_stays(document: Any, patch: Any) -> None:
    kept = copy.deepcopy(document)
    for merge in (merge_patch, strategic_merge_patch):
        once = merge(document, patch)
        assert merge(once, patch) == once
        assert document == kept


CONTAINERS = {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}], "args": ["-v"]}, {"name": "b"}]}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"containers": [{"name": "b", "image": "i"}]}, [CONTAINERS["containers"][0], {"name": "b", "image": "i"}]),
        ({"containers": [{"name": "a", "$patch": "delete"}]}, [{"name": "b"}]),
        ({"containers": [{"$patch": "replace"}, {"name": "c"}]}, [{"name": "c"}]),
        (
            {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}], "args": ["-q"]}]},
            [
                {"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}], "args": ["-q"]},
                {"name": "b"},
            ],
        ),
        ({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}, CONTAINERS["containers"]),
    ],
)
def test_strategic_merge_knows_containers_by_name(patch: dict[str, Any], expected: Any) -> None:
    assert strategic_merge_patch(CONTAINERS, patch)["containers"] == expected


def test_strategic_merge_obeys_its_directives() -> None:
    assert strategic_merge_patch({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}) == {"a": {"c": 2}}
    assert strategic_merge_patch({"a": 1, "b": 2}, {"$retainKeys": ["a"], "a": 3}) == {"a": 3}
    assert strategic_merge_patch({"finalizers": ["x"]}, {"finalizers": ["y"]}) == {"finalizers": ["x", "y"]}
    assert strategic_merge_patch({"f": ["x", "y"]}, {"$deleteFromPrimitiveList/f": ["x"]}) == {"f": ["y"]}
    with pytest.raises(PatchError, match="merge key: name"):
        strategic_merge_patch(CONTAINERS, {"containers": [{"image": "i"}]})


def test_json_patch_follows_its_standard() -> None:
    document = {"a": {"b/c": 1}, "l": [1, 2]}
    operations = [
        {"op": "add", "path": "/l/-", "value": 3},
        {"op": "add", "path": "/l/0", "value": 0},
        {"op": "move", "from": "/a/b~1c", "path": "/a/d"},
        {"op": "copy", "from": "/l/1", "path": "/e"},
        {"op": "replace", "path": "/l/1", "value": 9},
        {"op": "remove", "path": "/l/2"},
        {"op": "test", "path": "/l", "value": [0, 9, 3]},
    ]
    assert json_patch(document, operations) == {"a": {"d": 1}, "l": [0, 9, 3], "e": 1}
    assert document == {"a": {"b/c": 1}, "l": [1, 2]}


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ({"op": "test", "path": "/a", "value": 2}, UnprocessablePatch),
        ({"op": "replace", "path": "/b", "value": 2}, UnprocessablePatch),
        ({"op": "remove", "path": "/a/b"}, UnprocessablePatch),
        ({"op": "jump", "path": "/a"}, PatchError),
        ({"op": "add", "path": "/a"}, PatchError),
        ({"op": "add"}, PatchError),
        ({"op": "add", "path": "a", "value": 1}, PatchError),
    ],
)
def test_json_patch_refuses_what_does_not_fit(operation: Any, error: type[PatchError]) -> None:
    with pytest.raises(error) as refusal:
        json_patch({"a": 1}, [operation])
    assert isinstance(refusal.value, UnprocessablePatch) is (error is UnprocessablePatch)
