"""A stand ➜ the cluster as it was before: everything in the order in which nothing loses what removes it, and proven gone.

In: an administrator's connection, a `helm`. Out: what is left, which should be nothing. Doing it again goes on where it was.

The order matters, because things here are removed by other things: chaos objects by Chaos Mesh's controller (their finalizers hold them
until a fault is taken back, and for ever once the controller has gone), Schedules before what they would make again, Coroot's object by its
operator. A controller that is dead already holds nobody up for long: the force annotation after half a minute, then finalizers are cut.

Not removed while somebody drives it, which its Lease tells, unless that is said. Never: a namespace that was there before the stand,
custom resource definitions that came with somebody else's chart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio

from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.stands.cluster.administration import Administrator
from otel_control_gym.stands.cluster.helm import Helm
from otel_control_gym.stands.cluster.inspection import served_crds
from otel_control_gym.stands.cluster.installation import ADOPTED
from otel_control_gym.stands.cluster.manifests import is_ours, path_of, stand_documents
from otel_control_gym.stands.cluster.parts import CHAOS_MESH, COROOT, NAMESPACE, NAMESPACES, SYSTEM, Nodes, releases
from otel_control_gym.stands.cluster.tenancy import check_free
from otel_control_gym.stands.marks import MARK

__all__ = ("remove", "remove_chaos")

_CHAOS = "apis/chaos-mesh.org/v1alpha1"
_FORCE = {"metadata": {"annotations": {"chaos-mesh.chaos-mesh.org/cleanFinalizer": "forced"}}}
_CUT = {"metadata": {"finalizers": None}}
_GENTLE_SECONDS, _FORCED_SECONDS, _GONE_SECONDS = 30.0, 10.0, 300.0
_LOOK_SECONDS = 1.0
_NOT_FOUND = 404
_FIRST = ("schedules", "workflows")  #: what makes others
_WEBHOOKS = ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
_ADMISSION = "apis/admissionregistration.k8s.io/v1"

Tell = Callable[[str], None]


async def remove(
    administrator: Administrator, helm: Helm, tell: Tell, *, unmarked: bool = False, driven: bool = False
) -> tuple[str, ...]:
    """Remove a stand, and return what is left of it, as kubectl would name it.

    Args:
        unmarked: although its namespace isn't marked as one.
        driven: although an environment drives it, whose run ends with that.

    Raises:
        StandError: the cluster can't be reached, or helm refuses.
        StandTaken: an environment drives it.
        UsageError: the namespace isn't a stand's.
    """
    await _check_mark(administrator, unmarked=unmarked)
    if not driven:
        await check_free(administrator)
    for name in ("gym", "janitor"):  # nobody is to bring back what goes now
        await _delete(administrator, f"apis/apps/v1/namespaces/{SYSTEM}/deployments/{name}", tell)
    await remove_chaos(administrator, tell)
    for item in await _list(administrator, f"apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers"):
        place = f"apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/{item['metadata']['name']}"
        await _delete(administrator, place, tell)
    charts = {release.name: release for release in releases("", Nodes())}
    for name in ("otel-demo", "coroot"):
        await helm.uninstall(name, namespace=charts[name].namespace)
    coroots = f"apis/coroot.com/v1/namespaces/{COROOT}/coroots"
    for item in await _list(administrator, coroots):
        await _delete(administrator, f"{coroots}/{item['metadata']['name']}", tell)
    await _wait_until_none(administrator, coroots)
    for name in ("coroot-operator", "chaos-mesh"):
        await helm.uninstall(name, namespace=charts[name].namespace)
    await _remove_webhooks(administrator, tell)
    for name, item in (await served_crds(administrator)).items():
        if is_ours(item):
            await _delete(administrator, f"apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", tell)
    for namespace in NAMESPACES:
        claims = f"api/v1/namespaces/{namespace}/persistentvolumeclaims"
        for item in await _list(administrator, claims):
            name = str(item["metadata"]["name"])
            if is_ours(item) or (
                namespace == COROOT and "coroot-" in name
            ):  # the operator's own bear its object's name
                await _delete(administrator, f"{claims}/{name}", tell)
    for document in reversed(stand_documents()):
        if document["kind"] != "Namespace":
            await _delete(administrator, path_of(document), tell)
    await _remove_namespaces(administrator, tell)
    return await _left(administrator, helm)


async def remove_chaos(administrator: Administrator, tell: Tell) -> None:
    """Remove everything of Chaos Mesh's kinds in the application's namespace, gently and then by force; wait until it is gone."""
    answer = await administrator.kubernetes("GET", _CHAOS)
    if not answer.ok:
        return  # nobody serves the kinds, so there is none
    plurals = [
        str(item["name"])
        for item in answer.find("resources") or ()
        if item.get("namespaced") and "/" not in item["name"]
    ]
    for plural in sorted(plurals, key=lambda plural: (plural not in _FIRST, plural)):
        place = f"{_CHAOS}/namespaces/{NAMESPACE}/{plural}"
        paths = [f"{place}/{item['metadata']['name']}" for item in await _list(administrator, place)]
        for path in paths:
            await _delete(administrator, path, tell)
        for change, patience in ((None, _GENTLE_SECONDS), (_FORCE, _FORCED_SECONDS), (_CUT, _FORCED_SECONDS)):
            paths = [path for path in paths if not await _is_gone(administrator, path)]
            if change is _CUT and paths:
                await _remove_webhooks(administrator, tell)  # nobody answers them, so they would refuse the change
            for path in paths if change else ():
                tell(f"{path} doesn't go: {'force annotation' if change is _FORCE else 'its finalizers are cut'}")
                await administrator.merge(path, change or {})  # may be refused, as long as there are webhooks
            await _wait_until_gone(administrator, paths, patience)


async def _check_mark(administrator: Administrator, *, unmarked: bool) -> None:
    answer = await administrator.kubernetes("GET", f"api/v1/namespaces/{NAMESPACE}")
    if answer.status == _NOT_FOUND or unmarked:
        return
    if not answer.ok:
        raise StandError(f"{administrator.endpoints.kubernetes}: namespace {NAMESPACE}: {answer.problem}")
    if answer.text("metadata", "labels", MARK) != "true":
        raise UsageError(
            f"{administrator.endpoints.kubernetes}: namespace {NAMESPACE} isn't marked as a gym's stand, so nothing is removed\n"
            "  if it is one: --unmarked"
        )


async def _remove_webhooks(administrator: Administrator, tell: Tell) -> None:
    """Remove Chaos Mesh's webhooks: one that nobody answers any more would hold up every call that it is asked about."""
    for plural in _WEBHOOKS:
        for item in await _list(administrator, f"{_ADMISSION}/{plural}"):
            services = [hook.get("clientConfig", {}).get("service", {}) for hook in item.get("webhooks") or ()]
            if any(service.get("namespace") == CHAOS_MESH for service in services):
                await _delete(administrator, f"{_ADMISSION}/{plural}/{item['metadata']['name']}", tell)


async def _remove_namespaces(administrator: Administrator, tell: Tell) -> None:
    gone = []
    for namespace in reversed(NAMESPACES):
        path = f"api/v1/namespaces/{namespace}"
        answer = await administrator.kubernetes("GET", path)
        if not answer.ok or not is_ours(answer.body):
            continue
        if ADOPTED in (answer.find("metadata", "labels") or {}):
            labels = {MARK: None, ADOPTED: None, "app.kubernetes.io/part-of": None}
            tell(f"namespace/{namespace} was there before the stand and stays, without its mark")
            await administrator.merge(path, {"metadata": {"labels": labels}})
            continue
        await _delete(administrator, path, tell)
        gone.append(path)
    await _wait_until_gone(administrator, gone, _GONE_SECONDS)


async def _left(administrator: Administrator, helm: Helm) -> tuple[str, ...]:
    """Return what is left of a stand."""
    left = [
        f"release/{item.name} in {item.namespace}" for item in await helm.releases() if item.namespace in NAMESPACES
    ]
    for namespace in NAMESPACES:
        answer = await administrator.kubernetes("GET", f"api/v1/namespaces/{namespace}")
        if answer.ok and is_ours(answer.body):
            reasons = [
                condition.get("message", "")
                for condition in answer.find("status", "conditions") or ()
                if condition.get("status") == "True"
            ]
            left.append(f"namespace/{namespace}" + (f" ({'; '.join(reasons)})" if reasons else ""))
    left += [
        f"customresourcedefinition/{name}" for name, item in (await served_crds(administrator)).items() if is_ours(item)
    ]
    for plural in ("clusterroles", "clusterrolebindings"):
        items = await _list(administrator, f"apis/rbac.authorization.k8s.io/v1/{plural}")
        left += [f"{plural[:-1]}/{item['metadata']['name']}" for item in items if is_ours(item)]
    for plural in _WEBHOOKS:
        left += [
            f"{plural[:-1]}/{item['metadata']['name']}"
            for item in await _list(administrator, f"{_ADMISSION}/{plural}")
            for hook in (item.get("webhooks") or ())[:1]
            if hook.get("clientConfig", {}).get("service", {}).get("namespace") == CHAOS_MESH
        ]
    return tuple(left)


async def _list(administrator: Administrator, path: str) -> list[dict[str, Any]]:
    return (await administrator.kubernetes("GET", path)).items


async def _delete(administrator: Administrator, path: str, tell: Tell) -> None:
    """Delete what may be gone already."""
    answer = await administrator.delete(path)
    if answer.status == _NOT_FOUND:
        return
    if not answer.ok:
        raise StandError(f"{path}: can't be deleted: {answer.problem}")
    tell(f"delete {path}")


async def _is_gone(administrator: Administrator, path: str) -> bool:
    return (await administrator.kubernetes("GET", path)).status == _NOT_FOUND


async def _wait_until_gone(administrator: Administrator, paths: Iterable[str], seconds: float) -> None:
    """Wait until none of some objects is there, or the time is over."""
    with anyio.move_on_after(seconds):
        for path in paths:
            while True:
                if await _is_gone(administrator, path):
                    break
                await anyio.sleep(_LOOK_SECONDS)


async def _wait_until_none(administrator: Administrator, path: str) -> None:
    """Wait until a collection is empty, or the time is over."""
    with anyio.move_on_after(_GENTLE_SECONDS):
        while True:
            if not await _list(administrator, path):
                return
            await anyio.sleep(_LOOK_SECONDS)
