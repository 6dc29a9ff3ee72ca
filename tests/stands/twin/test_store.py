"""The store keeps what was written, refuses who comes late, and a watch tells exactly what a list would."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.stands.twin.objects import EVENT, POD, STRESS_CHAOS, Object
from otel_control_gym.stands.twin.selectors import label_predicate
from otel_control_gym.stands.twin.store import AlreadyExists, Conflict, Expired, Missing, ObjectStore
from otel_control_gym.stands.twin.watches import Watch

NAMES = st.sampled_from(["a", "b", "c"])
WRITES = st.lists(st.tuples(st.sampled_from(["create", "update", "remove"]), NAMES, st.sampled_from(["x", "y"])))


def pod(name: str, colour: str = "x") -> Object:
    return {"metadata": {"name": name, "namespace": "n", "labels": {"colour": colour}}, "spec": {}}


def write(store: ObjectStore, verb: str, name: str, colour: str) -> None:
    """Do one write if it is possible."""
    exists = store.get(POD, "n", name) is not None
    if verb == "create" and not exists:
        store.create(POD, pod(name, colour), 0)
    elif verb == "update" and exists:
        draft = store.draft(POD, "n", name)
        draft["metadata"]["labels"]["colour"] = colour
        store.update(POD, draft)
    elif verb == "remove" and exists:
        store.remove(POD, "n", name)


async def events_of(watch: Watch) -> list[dict[str, Any]]:
    """Return what a watch has to tell, and end it."""
    watch.close()
    lines = await watch.read()
    return [json.loads(line) for line in (lines or b"").splitlines()]


@given(WRITES, WRITES)
async def test_a_watch_from_a_list_reconstructs_the_next_list(
    before: list[tuple[str, str, str]], after: list[tuple[str, str, str]]
) -> None:
    for selector in (None, label_predicate("colour=x")):
        store = ObjectStore(1)
        for verb, name, colour in before:
            write(store, verb, name, colour)
        seen = dict(listed(store, selector))
        watch = store.watch(POD, "n", selector, after=store.version)
        for verb, name, colour in after:
            write(store, verb, name, colour)
        versions = []
        for event in await events_of(watch):
            item = event["object"]
            versions.append(int(item["metadata"]["resourceVersion"]))
            if event["type"] == "DELETED":
                del seen[item["metadata"]["name"]]
            else:
                assert (event["type"] == "MODIFIED") == (item["metadata"]["name"] in seen)
                seen[item["metadata"]["name"]] = item
        assert versions == sorted(set(versions))
        assert seen == dict(listed(store, selector))


def listed(store: ObjectStore, selector: Any) -> list[tuple[str, Any]]:
    return [(body["metadata"]["name"], body) for body in map(json.loads, store.bodies(POD, "n", selector))]


def test_of_two_writers_who_read_the_same_version_the_second_gets_a_conflict() -> None:
    store = ObjectStore(1)
    store.create(POD, pod("a"), 0)
    first, second = store.draft(POD, "n", "a"), store.draft(POD, "n", "a")
    first["spec"]["nodeName"] = "one"
    second["spec"]["nodeName"] = "two"
    store.update(POD, first)
    with pytest.raises(Conflict):
        store.update(POD, second)
    assert store.draft(POD, "n", "a")["spec"] == {"nodeName": "one"}


async def test_a_write_that_changes_nothing_keeps_the_version_and_tells_nobody() -> None:
    store = ObjectStore(1)
    store.create(POD, pod("a"), 0)
    version, watch = store.version, store.watch(POD, after=store.version)
    store.update(POD, store.draft(POD, "n", "a"))
    assert store.version == version
    assert await events_of(watch) == []


def test_what_is_missing_or_there_already_is_said() -> None:
    store = ObjectStore(1)
    store.create(POD, pod("a"), 0)
    with pytest.raises(AlreadyExists):
        store.create(POD, pod("a"), 0)
    with pytest.raises(Missing):
        store.remove(POD, "n", "b")


async def test_a_watch_resumes_where_the_history_reaches_and_is_expired_before() -> None:
    store = ObjectStore(1, history=4)
    for number in range(8):
        store.create(POD, pod(f"p{number}"), 0)
    assert store.oldest == 4
    names = [event["object"]["metadata"]["name"] for event in await events_of(store.watch(POD, after=4))]
    assert names == ["p4", "p5", "p6", "p7"]
    with pytest.raises(Expired, match=r"too old resource version: 3 \(4\)"):
        store.watch(POD, after=3)


async def test_a_client_that_reads_too_slowly_is_cut_off_and_resumes_where_it_was() -> None:
    store = ObjectStore(1, watch_limit=3)
    watch = store.watch(POD, after=0)
    for number in range(100):
        store.create(POD, pod(f"p{number}"), 0)
    assert watch.closed
    assert await watch.read() is None
    names = [event["object"]["metadata"]["name"] for event in await events_of(store.watch(POD, after=97))]
    assert names == ["p97", "p98", "p99"]


async def test_what_was_there_before_a_watch_counts_for_no_delay_of_its_client() -> None:
    store = ObjectStore(1, watch_limit=3)
    for number in range(10):
        store.create(POD, pod(f"p{number}"), 0)
    watch = store.watch(POD, after=None)
    store.create(POD, pod("q"), 0)
    assert len(await events_of(watch)) == 11


@given(WRITES, st.integers(0, 20))
def test_a_snapshot_is_what_a_list_showed_at_its_version(writes: list[tuple[str, str, str]], back: int) -> None:
    store, shown = ObjectStore(1), {0: store_bodies(ObjectStore(1))}
    for verb, name, colour in writes:
        write(store, verb, name, colour)
        shown[store.version] = store_bodies(store)
    version = max(0, store.version - back)
    assert [body for _, _, body in store.snapshot(POD, version, "n")] == shown[version]


def store_bodies(store: ObjectStore) -> list[bytes]:
    return store.bodies(POD, "n")


def test_a_snapshot_of_what_is_forgotten_is_expired() -> None:
    store = ObjectStore(1, history=2)
    for number in range(4):
        store.create(POD, pod(f"p{number}"), 0)
    assert len(store.snapshot(POD, 2)) == 2
    with pytest.raises(Expired):
        store.snapshot(POD, 1)


def test_the_history_is_bounded_in_bytes_as_well() -> None:
    store = ObjectStore(1)
    large = pod("a") | {"spec": {"nodeName": "x" * 2**20}}
    store.create(POD, large, 0)
    for number in range(100):
        draft = store.draft(POD, "n", "a")
        draft["metadata"]["labels"]["colour"] = str(number)
        store.update(POD, draft)
    assert 30 < store.oldest < store.version
    assert store.size_bytes == sum(map(len, store.bodies(POD)))


async def test_a_bookmark_carries_the_newest_version_to_those_who_asked_and_do_not_know() -> None:
    store = ObjectStore(1)
    store.create(POD, pod("a"), 0)
    asked, silent = store.watch(POD, after=1, bookmarks=True), store.watch(POD, after=1)
    up_to_date = store.watch(EVENT, after=1, bookmarks=True)
    store.bookmark()
    store.create(EVENT, {"metadata": {"name": "e", "namespace": "n"}}, 0)
    store.bookmark()
    (bookmark,) = await events_of(asked)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["kind"] == "Pod"
    assert bookmark["object"]["metadata"]["resourceVersion"] == "2"
    assert await events_of(silent) == []
    assert [event["type"] for event in await events_of(up_to_date)] == ["ADDED"]


def test_the_same_seed_gives_the_same_uids_and_another_seed_others() -> None:
    def uids(seed: int) -> list[str]:
        store = ObjectStore(seed)
        return [store.create(POD, pod(name), 0)["metadata"]["uid"] for name in "abc"] + [store.new_suffix()]

    assert uids(1) == uids(1)
    assert not set(uids(1)) & set(uids(2))
    assert len(set(uids(1))) == 4


@given(WRITES)
def test_owners_find_exactly_their_dependents(writes: list[tuple[str, str, str]]) -> None:
    store = ObjectStore(1)
    for verb, name, owner in writes:
        if verb == "create" and store.get(POD, "n", name) is None:
            item = pod(name)
            item["metadata"]["ownerReferences"] = [{"uid": owner, "controller": True}]
            store.create(POD, item, 0)
        elif verb == "remove" and store.get(POD, "n", name) is not None:
            store.remove(POD, "n", name)
    for owner in "xy":
        expected = [item for item in store.objects(POD) if item["metadata"]["ownerReferences"][0]["uid"] == owner]
        found = store.owned(POD, owner)
        assert sorted(item["metadata"]["name"] for item in found) == [item["metadata"]["name"] for item in expected]


def test_an_object_of_another_kind_shifts_nobodys_uid() -> None:
    def uid_of_second_pod(*between: Object) -> str:
        store = ObjectStore(1)
        store.create(POD, pod("a"), 0)
        for item in between:
            store.create(STRESS_CHAOS, item, 0)
        uid: str = store.create(POD, pod("b"), 0)["metadata"]["uid"]
        return uid

    assert uid_of_second_pod() == uid_of_second_pod(pod("hidden"))
