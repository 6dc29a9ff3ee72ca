"""What becomes of dependents: they go after their owner, before it, or stay, and who is orphaned may be adopted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otel_control_gym.stands.twin.api import JSON_PATCH, MERGE_PATCH, Api
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.objects import CONFIG_MAP, DEPLOYMENT, POD, REPLICA_SET, Kind, Object

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

NAMESPACE = "otel-demo"


def api(cluster: Cluster) -> Api:
    return Api(cluster.control_plane.context)


def delete(cluster: Cluster, kind: Kind, name: str, **options: Any) -> Object:
    return api(cluster).delete(kind, NAMESPACE, name, options)


def names(cluster: Cluster, kind: Kind, service: str = "cart") -> list[str]:
    """Return the objects of a kind that belong to a service."""
    return [
        item["metadata"]["name"]
        for item in cluster.control_plane.store.objects(kind, NAMESPACE)
        if item["metadata"].get("labels", {}).get("opentelemetry.io/name") == service
    ]


def manifest(item: Object) -> Object:
    """Return what a client would keep of an object to make it again."""
    kept = ("name", "labels")
    return {"metadata": {key: item["metadata"][key] for key in kept}, "spec": item["spec"]}


def test_in_the_background_the_owner_goes_at_once(cluster: Cluster) -> None:
    delete(cluster, DEPLOYMENT, "cart")
    assert names(cluster, DEPLOYMENT) == []
    assert len(names(cluster, POD)) == 4
    cluster.settle()
    assert (names(cluster, REPLICA_SET), names(cluster, POD)) == ([], [])


def test_in_the_foreground_pods_go_before_replica_sets_and_those_before_the_deployment(cluster: Cluster) -> None:
    marked = delete(cluster, DEPLOYMENT, "cart", propagationPolicy="Foreground")
    assert marked["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert "deletionTimestamp" in marked["metadata"]
    seen = []
    while names(cluster, DEPLOYMENT):
        due = cluster.control_plane.due()
        assert due is not None
        cluster.control_plane.run_due(due)
        seen.append(tuple(len(names(cluster, kind)) for kind in (DEPLOYMENT, REPLICA_SET, POD)))
    assert all(deployments or not sets for deployments, sets, _ in seen)
    assert all(sets or not pods for _, sets, pods in seen)
    assert seen[-1] == (0, 0, 0)
    assert len(names(cluster, POD, "frontend")) == 2


def test_an_owner_waits_for_those_alone_that_block_it(cluster: Cluster) -> None:
    owner = api(cluster).create(CONFIG_MAP, NAMESPACE, {"metadata": {"name": "owner"}})
    for name, blocks in (("blocking", True), ("free", False)):
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        metadata = {
            "name": name,
            "finalizers": ["x/y"],
            "ownerReferences": [reference | {"blockOwnerDeletion": blocks}],
        }
        api(cluster).create(CONFIG_MAP, NAMESPACE, {"metadata": metadata})
    delete(cluster, CONFIG_MAP, "owner", propagationPolicy="Foreground")
    cluster.settle()
    store = cluster.control_plane.store
    for name in ("owner", "blocking", "free"):
        item = store.get(CONFIG_MAP, NAMESPACE, name)
        assert item is not None
        assert "deletionTimestamp" in item["metadata"]
    release = [{"op": "remove", "path": "/metadata/finalizers"}]
    api(cluster).patch(CONFIG_MAP, NAMESPACE, "blocking", release, JSON_PATCH)
    cluster.settle()
    assert store.get(CONFIG_MAP, NAMESPACE, "owner") is None
    assert store.get(CONFIG_MAP, NAMESPACE, "free") is not None


def test_an_object_with_another_owner_stays_with_that_one(cluster: Cluster) -> None:
    references = []
    for name in ("first", "second"):
        uid = api(cluster).create(CONFIG_MAP, NAMESPACE, {"metadata": {"name": name}})["metadata"]["uid"]
        references.append({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid})
    api(cluster).create(CONFIG_MAP, NAMESPACE, {"metadata": {"name": "child", "ownerReferences": references}})
    delete(cluster, CONFIG_MAP, "first")
    cluster.settle()
    child = cluster.control_plane.store.get(CONFIG_MAP, NAMESPACE, "child")
    assert child is not None
    assert child["metadata"]["ownerReferences"] == references[1:]
    delete(cluster, CONFIG_MAP, "second")
    cluster.settle()
    assert cluster.control_plane.store.get(CONFIG_MAP, NAMESPACE, "child") is None


@pytest.mark.parametrize("option", [{"propagationPolicy": "Orphan"}, {"orphanDependents": True}])
def test_orphans_stay_and_are_adopted_by_a_deployment_that_is_made_again(
    cluster: Cluster, option: dict[str, Any]
) -> None:
    store = cluster.control_plane.store
    deployment = store.get(DEPLOYMENT, NAMESPACE, "cart")
    assert deployment is not None
    before = (names(cluster, REPLICA_SET), names(cluster, POD))
    delete(cluster, DEPLOYMENT, "cart", **option)
    cluster.settle()
    assert names(cluster, DEPLOYMENT) == []
    assert (names(cluster, REPLICA_SET), names(cluster, POD)) == before
    (name,) = names(cluster, REPLICA_SET)
    orphan = store.get(REPLICA_SET, NAMESPACE, name)
    assert orphan is not None
    assert "ownerReferences" not in orphan["metadata"]
    made = api(cluster).create(DEPLOYMENT, NAMESPACE, manifest(deployment))
    cluster.settle()
    assert (names(cluster, REPLICA_SET), names(cluster, POD)) == before, "no pod was started or stopped"
    adopted = store.get(REPLICA_SET, NAMESPACE, name)
    assert adopted is not None
    assert adopted["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]


def test_pods_of_an_orphaning_replica_set_find_the_next_of_its_template(cluster: Cluster) -> None:
    pods = names(cluster, POD)
    (name,) = names(cluster, REPLICA_SET)
    delete(cluster, REPLICA_SET, name, propagationPolicy="Orphan")
    cluster.settle()
    assert names(cluster, REPLICA_SET) == [name], "the Deployment makes it again, of the same hash"
    assert names(cluster, POD) == pods


def test_what_is_being_deleted_gets_no_new_finalizers(cluster: Cluster) -> None:
    api(cluster).create(CONFIG_MAP, NAMESPACE, {"metadata": {"name": "a", "finalizers": ["x/y"]}})
    delete(cluster, CONFIG_MAP, "a")
    with pytest.raises(ApiError, match="no new finalizers can be added if the object is being deleted"):
        api(cluster).patch(CONFIG_MAP, NAMESPACE, "a", {"metadata": {"finalizers": ["x/y", "x/z"]}}, MERGE_PATCH)
    api(cluster).patch(CONFIG_MAP, NAMESPACE, "a", {"metadata": {"finalizers": None}}, MERGE_PATCH)
    assert cluster.control_plane.store.get(CONFIG_MAP, NAMESPACE, "a") is None
