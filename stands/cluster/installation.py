"""A cluster ➜ a stand: namespaces, roles, charts, the gym's own pods, each after what it needs; then waiting, with reasons.

In: an administrator's connection, a `helm`, what is wanted. Out: the state of each part. Doing it again changes nothing and goes on where
an earlier attempt was interrupted, because every step says what is to be, not what is to be done.

What is refused, before anything is changed:
- a namespace that is there and isn't marked as a gym's stand: whatever is in it would be broken. One that is made here is marked, for there
  was nothing in it; `adopt` marks one that exists, and what was adopted isn't removed later;
- other versions than the pinned ones: the demo's chart can't be upgraded, and Helm leaves custom resource definitions as they are;
- a second stand, or another Chaos Mesh or Coroot: the demo's cluster role has a fixed name, and so have their resources.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path

import anyio
import msgspec
import yaml

from otel_control_gym.engine.clock import wall_timer
from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.stands.cluster import control_checks
from otel_control_gym.stands.cluster.administration import Administrator
from otel_control_gym.stands.cluster.connection import Answer
from otel_control_gym.stands.cluster.control_checks import Access
from otel_control_gym.stands.cluster.helm import Helm, InstalledRelease
from otel_control_gym.stands.cluster.inspection import PartState, inspect_stand, served_crds
from otel_control_gym.stands.cluster.manifests import PART_OF, Document, is_ours, path_of, stand_documents
from otel_control_gym.stands.cluster.parts import (
    COROOT,
    CRD_GROUPS,
    NAMESPACE,
    Nodes,
    Release,
    nodes_of,
    releases,
    workloads_of,
)
from otel_control_gym.stands.cluster.pins import Pins
from otel_control_gym.stands.cluster.readiness import Reason
from otel_control_gym.stands.cluster.stand_images import image_values
from otel_control_gym.stands.marks import MARK

__all__ = ("ADOPTED", "Wish", "check_cluster", "foreign_releases", "install")

ADOPTED = "otel-control-gym/adopted"  #: label of a namespace that was there before the stand, and outlives it
_NOT_FOUND = 404
_LOOK_SECONDS = 4.0
_CRD_SECONDS = 60.0
_EARLY = ("Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "NetworkPolicy")

Tell = Callable[[str], None]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What stand is wanted."""

    config: str  #: name of the service configuration
    services: tuple[str, ...]  #: its Deployments
    values: Mapping[str, str]  #: files of values that follow from it, by their path in `deploy/`
    pins: Pins  #: with the names of images where they are taken from
    installing: tuple[Access, ...]  #: permissions that it takes
    rewritten: bool = False  #: images come from elsewhere than the charts say
    pull_secret: str = ""  #: name of the Secret with which images are pulled; empty: none
    gym_image: str = ""  #: the image of the gym's own pods; empty: the pinned one
    charts: Path | None = None  #: where archives of charts lie; None: they are fetched from their repositories
    adopt: bool = False  #: mark namespaces that are there already
    patience_seconds: float = 900.0  #: how long to wait until all is ready


async def install(administrator: Administrator, helm: Helm, wish: Wish, tell: Tell) -> tuple[PartState, ...]:
    """Install a stand, or go on with it, and wait until it is ready or patience ends; `tell` gets lines of progress.

    Returns: the state of each part at the end; not all may be complete.

    Raises:
        StandError: the cluster can't be reached or isn't fit, or refuses a step.
        UsageError: what is there isn't to be touched, or isn't what is pinned.
    """
    nodes = await check_cluster(administrator, wish)
    wanted = releases(wish.config, nodes)
    installed = await helm.releases()
    _check_releases(installed, wanted, wish.pins)
    await _check_crds(administrator, installed)
    documents = stand_documents(gym_image=wish.gym_image or wish.pins.image("gym"), pull_secret=wish.pull_secret)
    adopted = await _check_namespaces(administrator, documents, adopt=wish.adopt)
    if nodes.nested:
        tell("nodes are containers (kind, k3d): Coroot's node agent doesn't work there and isn't installed")

    early = [_namespace(item, adopted) for item in documents if item["kind"] in _EARLY]
    await _apply(administrator, early, tell)
    await _admin_secret(administrator)
    # What pods mount comes before the charts, the gym's own pods after them: they wait for nobody, and nothing waits for them.
    await _apply(administrator, [item for item in documents if item["kind"] == "ConfigMap"], tell)
    with tempfile.TemporaryDirectory() as folder:
        for release in wanted:
            await _install_release(helm, release, wish, Path(folder))
            if release.chart == "coroot-operator":
                await _wait_for_crd(administrator, "coroots.coroot.com")
    await _claim_crds(administrator)
    await _apply(administrator, [item for item in documents if item["kind"] not in (*_EARLY, "ConfigMap")], tell)
    return await _wait(administrator, helm, wanted, wish, tell)


async def check_cluster(administrator: Administrator, wish: Wish) -> Nodes:
    """Return what kind of nodes a cluster has, if a stand can be installed on it by whoever asks.

    Raises:
        StandError: it is too old, or can't be reached.
        UsageError: permissions are missing.
    """
    found = await control_checks.version(administrator, wish.pins.kubernetes.oldest)
    if found.status == "failed":
        raise StandError(f"{found.found}\n  {found.remedy}")
    granted = await control_checks.permissions(
        administrator, "installing", wish.installing, "use an administrator's kubeconfig", needed=True
    )
    if granted.status == "failed":
        raise UsageError(f"{granted.found}\n  {granted.remedy}")
    return nodes_of((await administrator.kubernetes("GET", "api/v1/nodes")).items)


def foreign_releases(installed: Iterable[InstalledRelease], wanted: Iterable[Release]) -> tuple[InstalledRelease, ...]:
    """Return releases of a stand's charts that aren't this stand's: elsewhere, or under another name."""
    ours = {(release.namespace, release.name) for release in wanted}
    charts = tuple(release.chart for release in wanted)
    return tuple(
        release
        for release in installed
        if _chart_name(release.chart) in charts and (release.namespace, release.name) not in ours
    )


def _chart_name(chart: str) -> str:
    """Return `chaos-mesh` of `chaos-mesh-2.8.3`."""
    return chart.rpartition("-")[0]


def _check_releases(installed: tuple[InstalledRelease, ...], wanted: tuple[Release, ...], pins: Pins) -> None:
    for foreign in foreign_releases(installed, wanted):
        raise UsageError(
            f"{foreign.chart} is installed already, as {foreign.name} in namespace {foreign.namespace}: one stand per cluster\n"
            f"  helm uninstall {foreign.name} --namespace {foreign.namespace}, or take another cluster"
        )
    there = {(release.namespace, release.name): release for release in installed}
    for release in wanted:
        found = there.get((release.namespace, release.name))
        if found is None:
            continue
        pinned = f"{release.chart}-{pins.charts[release.chart].version}"
        if found.chart != pinned:
            raise UsageError(
                f"namespace {release.namespace} has {found.chart}, and {pinned} is pinned: a stand can't be upgraded in place\n"
                "  ocg stand down, then ocg stand up"
            )
        if found.pending:
            raise UsageError(
                f"release {release.name} in namespace {release.namespace} is {found.status}: somebody is at work on it, or was "
                "interrupted\n  if nobody is: ocg stand down, then ocg stand up"
            )


async def _check_crds(administrator: Administrator, installed: Iterable[InstalledRelease]) -> None:
    namespaces = {release.namespace for release in installed}
    foreign = [
        name
        for name, item in (await served_crds(administrator)).items()
        if not is_ours(item) and CRD_GROUPS[item["spec"]["group"]] not in namespaces
    ]
    if foreign:
        raise UsageError(
            f"the cluster has custom resources that this stand didn't bring: {', '.join(foreign[:4])}"
            f"{' and others' if len(foreign) > 4 else ''}: somebody's Chaos Mesh or Coroot, or what one has left\n"
            "  if nobody needs them: kubectl delete crd NAME; Helm wouldn't replace them by those of the pinned version"
        )


async def _check_namespaces(administrator: Administrator, documents: Iterable[Document], *, adopt: bool) -> set[str]:
    """Return the namespaces that were there before, and are adopted.

    Raises: UsageError: one is there, and nobody said that it is to be a stand's.
    """
    adopted = set()
    for document in documents:
        if document["kind"] != "Namespace":
            continue
        name = document["metadata"]["name"]
        answer = await administrator.kubernetes("GET", path_of(document))
        if answer.status == _NOT_FOUND:
            continue
        _check(answer, f"namespace {name}")
        if answer.find("metadata", "deletionTimestamp"):
            raise UsageError(f"namespace {name} is being removed: wait until it is gone, then ocg stand up again")
        labels = answer.find("metadata", "labels") or {}
        is_stand = is_ours(answer.body) and (name != NAMESPACE or labels.get(MARK) == "true")
        if not is_stand and not adopt:
            raise UsageError(
                f"namespace {name} is there already and isn't marked as a gym's stand, so nothing in it is touched\n"
                "  if everything in it may be broken: ocg stand up --mark"
            )
        if not is_stand or ADOPTED in labels:
            adopted.add(name)
    return adopted


def _namespace(document: Document, adopted: set[str]) -> Document:
    """Return a namespace with the note that it was there before; anything else as it is."""
    metadata = document["metadata"]
    if document["kind"] != "Namespace" or metadata["name"] not in adopted:
        return document
    return {**document, "metadata": {**metadata, "labels": {**metadata["labels"], ADOPTED: "true"}}}


async def _apply(administrator: Administrator, documents: Iterable[Document], tell: Tell) -> None:
    for document in documents:
        path = path_of(document)
        metadata = document["metadata"]
        place = f"{document['kind'].lower()}/{metadata['name']}"
        where = f" in {metadata['namespace']}" if "namespace" in metadata else ""
        tell(f"apply {place}{where}")
        _check(await administrator.apply(path, document), f"{place}{where}")


async def _admin_secret(administrator: Administrator) -> None:
    """Make the password of Coroot's administrator once: nobody needs to know it, but without one nobody could read."""
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "coroot-admin", "namespace": COROOT, "labels": PART_OF},
        "stringData": {"password": secrets.token_hex(16)},
    }
    answer = await administrator.kubernetes("GET", path_of(document))
    if answer.status == _NOT_FOUND:
        place = f"api/v1/namespaces/{COROOT}/secrets"
        answer = await administrator.kubernetes("POST", place, body=document)
    _check(answer, "secret/coroot-admin in coroot")


async def _install_release(helm: Helm, release: Release, wish: Wish, folder: Path) -> None:
    files = []
    for number, name in enumerate(release.values):
        text = wish.values.get(name)
        if text is None:
            text = (resources.files("otel_control_gym.deploy") / name).read_text(encoding="utf-8")
        files.append(await _written(folder / f"{release.name}-{number}-{Path(name).name}", text))
    if wish.rewritten or wish.pull_secret:
        images = image_values(release.chart, wish.pins, pull_secret=wish.pull_secret)
        text = yaml.safe_dump(images, sort_keys=False)
        files.append(await _written(folder / f"{release.name}-images.yaml", text))
    archive = await helm.fetch(release.chart, wish.pins.charts[release.chart], wish.charts or folder)
    await helm.install(release.name, archive, namespace=release.namespace, values=files, checked=release.checked)


async def _written(path: Path, text: str) -> Path:
    await anyio.Path(path).write_text(text, encoding="utf-8")
    return path


async def _wait_for_crd(administrator: Administrator, name: str) -> None:
    with anyio.move_on_after(_CRD_SECONDS):
        while True:
            found = (await served_crds(administrator)).get(name, {})
            conditions = (found.get("status") or {}).get("conditions") or ()
            if any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
                return
            await anyio.sleep(1.0)
    raise StandError(
        f"custom resource {name} isn't served after {_CRD_SECONDS:g} s, although its chart is installed\n"
        f"  kubectl get crd {name}, and is the API server well?"
    )


async def _claim_crds(administrator: Administrator) -> None:
    """Label the custom resource definitions that came with our charts: only those are removed with the stand."""
    for name, item in (await served_crds(administrator)).items():
        if not is_ours(item):
            path = f"apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
            _check(await administrator.merge(path, {"metadata": {"labels": PART_OF}}), name)


def _check(answer: Answer, what: str) -> None:
    if not answer.ok:
        raise StandError(f"{what}: {answer.problem}")


async def _wait(
    administrator: Administrator, helm: Helm, wanted: tuple[Release, ...], wish: Wish, tell: Tell
) -> tuple[PartState, ...]:
    """Look until all is ready or patience ends; tell what has changed, and reasons that are still there at a second look."""
    expected = workloads_of(wish.services)
    installed = await helm.releases()
    begun, before, told = wall_timer(), dict[str, PartState](), set[Reason]()
    while True:
        states = await inspect_stand(administrator, installed, wanted, wish.pins, expected)
        for state in states:
            earlier = before.get(state.namespace)
            if earlier is None or (state.ready, state.wanted) != (earlier.ready, earlier.wanted):
                tell(f"{state.namespace}: {state.ready} of {state.wanted} ready")
            for reason in state.reasons:
                if earlier is not None and reason in earlier.reasons and reason not in told:
                    told.add(reason)
                    tell(f"{state.namespace}: {reason.object}: {reason.found}\n    {reason.remedy}")
        if all(state.complete for state in states) or wall_timer() - begun >= wish.patience_seconds:
            return states
        before = {state.namespace: state for state in states}
        await anyio.sleep(_LOOK_SECONDS)
