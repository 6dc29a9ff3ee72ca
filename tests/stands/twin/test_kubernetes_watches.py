"""Lists come in pages of one moment; watches resume, are many, and no slow one holds the others or the memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_control_gym.stands.twin.objects import CONFIG_MAP, POD
from otel_control_gym.stands.twin.selectors import label_predicate
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer
from otel_control_gym.stands.twin.store import ObjectStore

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

NAMESPACE = "otel-demo"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
async def url(cluster: Cluster) -> AsyncIterator[str]:
    async with KubernetesServer(cluster.control_plane).open() as address:
        yield address


@pytest.fixture
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    # No bound on connections, and a buffer that holds the long lines of these tests.
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0), read_bufsize=2**20) as session:
        yield session


def fill(cluster: Cluster, names: list[str]) -> None:
    """Make ConfigMaps; those of an even length are blue."""
    for name in names:
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {"colour": "red" if len(name) % 2 else "blue"}}
        cluster.control_plane.store.create(CONFIG_MAP, {"metadata": metadata, "data": {}}, cluster.control_plane.now)


async def get(http: aiohttp.ClientSession, code: int = 200, **query: str) -> Any:
    async with http.get(CONFIG_MAPS, params=query) as answer:
        assert answer.status == code, await answer.text()
        return await answer.json()


def names_of(listed: Any) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 5), st.sampled_from(["", "colour=red", "colour!=red"]))
async def test_pages_add_up_to_the_list_of_their_first_moment(
    http: aiohttp.ClientSession, cluster: Cluster, limit: int, selector: str
) -> None:
    store = cluster.control_plane.store
    for item in store.objects(CONFIG_MAP):
        store.remove(CONFIG_MAP, NAMESPACE, item["metadata"]["name"])
    fill(cluster, [letter * length for letter in "abc" for length in (1, 2, 3)])
    whole = await get(http, labelSelector=selector)
    page = await get(http, labelSelector=selector, limit=str(limit))
    shown = names_of(page)
    while token := page["metadata"].get("continue"):
        assert len(page["items"]) == limit
        remaining = page["metadata"].get("remainingItemCount")
        assert remaining is None if selector else remaining == len(whole["items"]) - len(shown)
        # What happens in between is for the next list: an object before and after the place, one gone, one of another colour.
        fill(cluster, [f"{kind}{len(shown)}" for kind in "ax"])
        for name in ("ccc", "bb"):
            if store.get(CONFIG_MAP, NAMESPACE, name) is not None:
                store.remove(CONFIG_MAP, NAMESPACE, name)
        page = await get(http, labelSelector=selector, limit=str(limit), **{"continue": token})
        assert page["metadata"]["resourceVersion"] == whole["metadata"]["resourceVersion"]
        shown += names_of(page)
    assert shown == names_of(whole)


async def test_a_list_of_a_version_is_exact_or_expired(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    fill(cluster, ["a", "b"])
    listed = await get(http)
    version = listed["metadata"]["resourceVersion"]
    fill(cluster, ["c"])
    cluster.control_plane.store.remove(CONFIG_MAP, NAMESPACE, "a")
    assert names_of(await get(http)) == ["b", "c"]
    exact = await get(http, resourceVersion=version, resourceVersionMatch="Exact")
    assert exact == listed
    assert names_of(await get(http, resourceVersion=version, resourceVersionMatch="NotOlderThan")) == ["b", "c"]
    page = await get(http, limit="1")
    for number in range(5000):
        draft = cluster.control_plane.store.draft(CONFIG_MAP, NAMESPACE, "b")
        draft["data"]["n"] = str(number)
        cluster.control_plane.store.update(CONFIG_MAP, draft)
    await get(http, 410, resourceVersion=version, resourceVersionMatch="Exact")
    expired = await get(http, 410, limit="1", **{"continue": page["metadata"]["continue"]})
    assert "The provided continue parameter is too old" in expired["message"]
    rest = await get(http, limit="1", **{"continue": expired["metadata"]["continue"]})
    assert names_of(rest) == ["c"]


async def test_tables_have_pages_too(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    fill(cluster, ["a", "b", "c"])
    async with http.get(CONFIG_MAPS, headers=TABLE, params={"limit": "2"}) as answer:
        first = await answer.json()
    assert [row["cells"][0] for row in first["rows"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 1
    query = {"limit": "2", "continue": first["metadata"]["continue"]}
    async with http.get(CONFIG_MAPS, headers=TABLE, params=query) as answer:
        assert [row["cells"][0] for row in (await answer.json())["rows"]] == ["c"]


async def test_a_thousand_watches_see_each_change_once(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    query = {"watch": "true", "resourceVersion": cluster.control_plane.resource_version}
    streams = [await http.get(CONFIG_MAPS, params=query) for _ in range(1000)]
    assert cluster.control_plane.store.watches == 1000
    fill(cluster, ["a", "bb", "ccc"])
    for stream in streams:
        seen = [json.loads(await stream.content.readline())["object"]["metadata"]["name"] for _ in range(3)]
        assert seen == ["a", "bb", "ccc"]
        stream.close()
    with anyio.fail_after(30):
        while cluster.control_plane.store.watches:
            await anyio.wait_all_tasks_blocked()


def test_a_thousand_watches_that_nobody_reads_hold_each_change_once() -> None:
    store, text = ObjectStore(1), "x" * 2**16
    store.create(POD, {"metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}}, "spec": {}}, 0)
    for number in range(1000):
        selector = label_predicate("a=b") if number % 2 else None
        store.watch(POD, selector=selector, after=None if number % 3 else store.version)
    tracemalloc.start()
    try:
        for number in range(50):
            draft = store.draft(POD, "n", "p")
            draft["spec"] = {"nodeName": f"{text}{number}"}
            store.update(POD, draft)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    bodies = 50 * 3 * 2**16  # an object after a write is one in memory, before the next one another, and its encoding
    assert held < bodies + 1000 * 50 * 150, "1,000 watches share the bodies; an event costs each of them some pointers"


async def test_a_client_that_does_not_read_delays_nobody_and_is_cut_off(
    http: aiohttp.ClientSession, cluster: Cluster
) -> None:
    store = cluster.control_plane.store
    query = {"watch": "true", "resourceVersion": cluster.control_plane.resource_version}
    slow, quick = await http.get(CONFIG_MAPS, params=query), await http.get(CONFIG_MAPS, params=query)
    fill(cluster, ["a"])
    for number in range(300):  # far beyond what sockets hold, and beyond the bound of a watch in bytes
        draft = store.draft(CONFIG_MAP, NAMESPACE, "a")
        draft["data"] = {"n": f"{number} {'x' * 2**18}"}
        store.update(CONFIG_MAP, draft)
        event = json.loads(await quick.content.readline())
        assert event["type"] == ("MODIFIED" if number else "ADDED")
    assert store.watches == 2, "the slow one is closed, but its handler waits for its client to take what is on its way"
    with anyio.fail_after(10):
        rest = await slow.content.read()
    assert len(rest) < 2**26, "not all of it came"
    seen = json.loads(rest.splitlines()[-1])["object"]["metadata"]["resourceVersion"]
    quick.close()
    async with http.get(CONFIG_MAPS, params={"watch": "true", "resourceVersion": seen}) as again:
        event = json.loads(await again.content.readline()) if again.status == 200 else {"type": "ERROR"}
    assert event["type"] in ("MODIFIED", "ERROR"), "it resumes, or is told that it can't"
