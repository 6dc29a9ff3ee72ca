"""Server-side apply: fields have owners, an apply changes what is its own or nobody's, and what it no longer names goes."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.stands.twin.field_sets import fields_of, leaves, paths_of, shown
from otel_control_gym.stands.twin.managed_fields import ApplyConflict, Manager, applied, managed_after
from otel_control_gym.stands.twin.objects import CONFIG_MAP, DEPLOYMENT, Object
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

CONFIG_MAPS = "/api/v1/namespaces/otel-demo/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/otel-demo/deployments"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}
ONE, TWO = Manager("Apply", "one", "v1"), Manager("Apply", "two", "v1")
HAND = Manager("Update", "hand", "v1")

DATA = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)
MANAGERS = st.sampled_from([ONE, TWO])


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    async with KubernetesServer(cluster.control_plane).open() as url, aiohttp.ClientSession(url) as session:
        yield session


async def apply(
    http: aiohttp.ClientSession, path: str, body: Any, manager: str = "one", code: int = 200, **query: str
) -> Any:
    async with http.patch(path, json=body, headers=APPLY, params={"fieldManager": manager, **query}) as answer:
        assert answer.status == code, await answer.text()
        return await answer.json()


def settings(data: dict[str, str], **metadata: Any) -> Any:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", **metadata}, "data": data}


def cart(**spec: Any) -> Any:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart"}, "spec": spec}


def managers_of(item: Any) -> dict[tuple[str, str], Any]:
    return {(entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in item["metadata"]["managedFields"]}


async def test_an_apply_creates_owns_and_takes_back_what_it_no_longer_names(http: aiohttp.ClientSession) -> None:
    path = f"{CONFIG_MAPS}/settings"
    made = await apply(http, path, settings({"a": "1", "b": "2"}, labels={"x": "y"}), code=201)
    assert managers_of(made) == {
        ("one", "Apply"): {"f:data": {"f:a": {}, "f:b": {}}, "f:metadata": {"f:labels": {"f:x": {}}}}
    }
    unchanged = await apply(http, path, settings({"a": "1", "b": "2"}, labels={"x": "y"}))
    assert unchanged["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    changed = await apply(http, path, settings({"a": "3"}))
    assert changed["data"] == {"a": "3"}
    assert "labels" not in changed["metadata"]


async def test_what_another_changed_is_a_conflict_until_it_is_forced(http: aiohttp.ClientSession) -> None:
    path = f"{CONFIG_MAPS}/settings"
    await apply(http, path, settings({"a": "1", "b": "1"}), code=201)
    async with http.patch(path, json={"data": {"a": "2"}}, headers=MERGE, params={"fieldManager": "hand"}) as answer:
        assert managers_of(await answer.json()).keys() == {("one", "Apply"), ("hand", "Update")}
    refused = await apply(http, path, settings({"a": "1", "b": "1"}), code=409)
    assert refused["reason"] == "Conflict"
    assert refused["message"] == 'Apply failed with 1 conflict: conflict with "hand" using v1: .data.a'
    assert refused["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "hand" using v1', "field": ".data.a"}
    ]
    await apply(http, path, settings({"b": "2"}), manager="two", code=409)
    forced = await apply(http, path, settings({"a": "1", "b": "1"}), force="true")
    assert forced["data"] == {"a": "1", "b": "1"}
    assert managers_of(forced).keys() == {("one", "Apply")}
    shared = await apply(http, path, settings({"a": "1"}), manager="two")
    assert managers_of(shared)["two", "Apply"] == {"f:data": {"f:a": {}}}
    left = await apply(http, path, settings({"b": "1"}))
    assert left["data"] == {"a": "1", "b": "1"}, "what the other still wants stays"


async def test_containers_and_variables_are_owned_one_by_one(http: aiohttp.ClientSession) -> None:
    path = f"{DEPLOYMENTS}/cart"
    variable = {"name": "A", "value": "1"}
    template = {"spec": {"containers": [{"name": "cart", "env": [variable]}]}}
    stored = await apply(http, path, cart(template=template))
    (container,) = stored["spec"]["template"]["spec"]["containers"]
    assert container["env"][-1] == variable
    assert len(container["env"]) > 1
    owned = managers_of(stored)["one", "Apply"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    variables: Any = {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}}
    assert owned == {'k:{"name":"cart"}': {".": {}, "f:name": {}, "f:env": variables}}
    template = {"spec": {"containers": [{"name": "cart", "image": "example.org/cart:2"}]}}
    refused = await apply(http, path, cart(template=template), code=409)
    where = '.spec.template.spec.containers[name="cart"].image'
    assert refused["message"] == f'Apply failed with 1 conflict: conflict with "helm" using apps/v1: {where}'
    stored = await apply(http, path, cart(template=template), force="true")
    (container,) = stored["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "example.org/cart:2"
    assert "A" not in [one["name"] for one in container["env"]]


async def test_a_manifest_with_a_size_conflicts_with_who_has_scaled(http: aiohttp.ClientSession) -> None:
    await apply(http, f"{DEPLOYMENTS}/cart", cart(replicas=4), manager="ci")
    query = {"fieldManager": "kubectl"}
    async with http.patch(
        f"{DEPLOYMENTS}/cart/scale", json={"spec": {"replicas": 6}}, headers=MERGE, params=query
    ) as answer:
        assert answer.status == 200
    refused = await apply(http, f"{DEPLOYMENTS}/cart", cart(replicas=4), manager="ci", code=409)
    owner = 'conflict with "kubectl" with subresource "scale" using apps/v1'
    assert refused["message"] == f"Apply failed with 1 conflict: {owner}: .spec.replicas"
    kept = await apply(http, f"{DEPLOYMENTS}/cart", cart(minReadySeconds=1), manager="ci")
    assert kept["spec"]["replicas"] == 6, "a manifest that leaves the size out leaves the size alone"


async def test_a_dry_run_of_an_apply_changes_nothing(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    version = cluster.control_plane.resource_version
    seen = await apply(http, f"{DEPLOYMENTS}/cart", cart(replicas=7), force="true", dryRun="All")
    assert seen["spec"]["replicas"] == 7
    await apply(http, f"{CONFIG_MAPS}/settings", settings({}), code=201, dryRun="All")
    assert cluster.control_plane.resource_version == version


async def test_yaml_is_read_and_its_dates_are_texts(http: aiohttp.ClientSession) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata:\n  # a comment\n  a: 'one'\n"
    query = {"fieldManager": "one"}
    async with http.patch(f"{CONFIG_MAPS}/settings", data=text.encode(), headers=APPLY, params=query) as answer:
        assert (await answer.json())["data"] == {"a": "one"}
    text = text.replace("name: settings", "name: settings, labels: {since: 2026-01-01}")
    async with http.patch(f"{CONFIG_MAPS}/settings", data=text.encode(), headers=APPLY, params=query) as answer:
        assert (await answer.json())["metadata"]["labels"] == {"since": "2026-01-01"}


@pytest.mark.parametrize(
    ("body", "query", "code", "told"),
    [
        (settings({}), {"fieldManager": ""}, 422, "fieldManager: Required value: is required for apply patch"),
        (settings({}), {"fieldManager": "x" * 129}, 422, "fieldManager: Too long"),
        (settings({}, managedFields=[{"manager": "x"}]), {}, 400, "metadata.managedFields must be nil"),
        (settings({}, name="other"), {}, 400, "does not match the name on the URL"),
        (settings({}, resourceVersion="1"), {}, 409, "the object has been modified"),
        (settings({}) | {"kind": "Secret"}, {}, 400, "found v1 Secret"),
        ({"metadata": {"name": "settings"}}, {}, 400, "missing"),
        (settings({}) | {"dada": {}}, {"fieldValidation": "Strict"}, 400, 'unknown field "dada"'),
        ([], {}, 400, "no object"),
    ],
)
async def test_an_apply_that_says_nothing_sensible_is_refused(
    http: aiohttp.ClientSession, body: Any, query: dict[str, str], code: int, told: str
) -> None:
    await apply(http, f"{CONFIG_MAPS}/settings", settings({"a": "1"}), code=201)
    manager = query.get("fieldManager", "one")
    rest = {key: value for key, value in query.items() if key != "fieldManager"}
    refused = await apply(http, f"{CONFIG_MAPS}/settings", body, manager, code, **rest)
    assert told in refused["message"]


async def test_force_belongs_to_an_apply_alone(http: aiohttp.ClientSession) -> None:
    async with http.patch(f"{DEPLOYMENTS}/cart", json={}, headers=MERGE, params={"force": "true"}) as answer:
        assert (await answer.json())["message"].endswith("force: Forbidden: may not be specified for non-apply patch")


async def test_what_no_client_has_written_names_no_managers(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    cluster.live(60)
    for path in (DEPLOYMENTS, "/api/v1/pods", "/apis/apps/v1/replicasets"):
        async with http.get(path) as answer:
            assert not [item for item in (await answer.json())["items"] if "managedFields" in item["metadata"]]


def item_of(data: dict[str, str]) -> Object:
    return {"metadata": {"name": "x"}, "data": data} if data else {"metadata": {"name": "x"}}


@given(st.lists(st.tuples(MANAGERS, DATA, st.booleans()), max_size=6))
def test_after_forced_applies_the_object_is_what_its_managers_last_wanted(
    applies: list[tuple[Manager, dict[str, str], bool]],
) -> None:
    """Each field is there because somebody wants it, with the value of who wanted it last; nobody wants what isn't there."""
    item: Object | None = None
    wants: dict[Manager, dict[str, str]] = {}
    for manager, data, by_hand in applies:
        before = copy.deepcopy(item)
        if by_hand and item is not None:
            after = item_of(data) | {"metadata": {"name": "x", "managedFields": item["metadata"]["managedFields"]}}
            entries = managed_after(CONFIG_MAP, item, after, HAND, "t")
            item = after | {"metadata": {"name": "x", "managedFields": entries}}
        else:
            merged, entries = applied(CONFIG_MAP, item, item_of(data), manager, "t", force=True)
            assert before == item, "an apply changes no stored object"
            item = merged | {"metadata": {"name": "x", "managedFields": entries}}
            wants[manager] = data
            assert data.items() <= item.get("data", {}).items()
        there = leaves(item, built_in=True).keys()
        owned = {path for entry in item["metadata"]["managedFields"] for path in paths_of(entry["fieldsV1"])}
        assert owned == set(there), "every field has an owner, and every owner's field is there"


@given(DATA, DATA)
def test_an_apply_conflicts_exactly_where_it_would_change_what_another_owns(
    theirs: dict[str, str], ours: dict[str, str]
) -> None:
    merged, entries = applied(CONFIG_MAP, None, item_of(theirs), ONE, "t", force=False)
    item = merged | {"metadata": {"name": "x", "managedFields": entries}}
    differing = {key for key in theirs.keys() & ours.keys() if theirs[key] != ours[key]}
    if differing:
        with pytest.raises(ApplyConflict) as refused:
            applied(CONFIG_MAP, item, item_of(ours), TWO, "t", force=False)
        assert {shown(path) for _, path in refused.value.conflicts} == {f".data.{key}" for key in differing}
        assert {other for other, _ in refused.value.conflicts} == {ONE}
    else:
        merged, _ = applied(CONFIG_MAP, item, item_of(ours), TWO, "t", force=False)
        assert merged.get("data", {}) == theirs | ours


def test_paths_survive_their_encoding(cluster: Cluster) -> None:
    item = cluster.control_plane.store.get(DEPLOYMENT, "otel-demo", "cart")
    assert item is not None
    paths = leaves(item | {"metadata": item["metadata"] | {"finalizers": ["a/b"]}}, built_in=True)
    assert paths_of(fields_of(paths)).keys() == paths.keys()
    assert '.spec.template.spec.containers[name="cart"].ports[containerPort=8080,protocol="TCP"].name' in map(
        shown, paths
    )
    assert '.metadata.finalizers[="a/b"]' in map(shown, paths)
