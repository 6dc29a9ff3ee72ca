"""A real API server takes every manifest of `deploy/`, every field of it, and every Deployment and Service as the twin installs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import otel_control_gym as ocg
from otel_control_gym.actuators.kubernetes_client import KubernetesClient
from otel_control_gym.actuators.transport import Refused
from otel_control_gym.engine.deployment import PACKAGED
from otel_control_gym.stands.twin.manifests import deployment, service
from tests.cluster.bare_cluster import create, documents

DEPLOY = Path(__file__).parents[2] / "deploy"
KNOWN = r"spec\.template\.spec\.(serviceAccount|initContainers\[\d+\]\.imagePullPolicy): None here"
"""What our twin leaves out: the deprecated name of serviceAccountName, and how an image without a policy of its own is pulled."""
MANIFESTS = sorted([*(DEPLOY / "stand").glob("*.yaml"), *(DEPLOY / "kubernetes").glob("*.yaml")])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
async def test_the_server_would_take_a_manifest(path: Path, admin: KubernetesClient) -> None:
    for document in documents(path):
        document["metadata"]["name"] += "-tried"  # the stand's own are there already
        await create(admin, document, dry_run=True)


async def test_a_misspelt_field_would_be_refused(admin: KubernetesClient) -> None:
    (job, *_) = documents(DEPLOY / "kubernetes" / "workers.yaml")
    job["spec"]["completionmode"] = job["spec"].pop("completionMode")
    with pytest.raises(Refused, match=r"unknown field .spec.completionmode"):
        await create(admin, job, dry_run=True)


@pytest.mark.parametrize("name", PACKAGED)
async def test_what_the_twin_installs_is_what_a_server_makes_of_it(name: str, admin: KubernetesClient) -> None:
    """The twin fills in defaults as the server does: so the server, given the twin's, adds none, but those that are known."""
    application = ocg.resolve(name, workload="steady", seed=7).public.services
    found: dict[str, None] = {}
    for service_name, settings in application.services.items():
        made: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "Deployment"}
        made |= deployment(application, service_name, settings)
        made["metadata"]["name"] = f"{service_name}-tried"
        given = await create(admin, made, dry_run=True)
        found |= dict.fromkeys(differences(made["spec"], given["spec"]))
        if settings.listens:
            body: dict[str, Any] = {"apiVersion": "v1", "kind": "Service"}
            body |= service(application, service_name, settings)
            body["metadata"]["name"] = f"{service_name}-tried"
            body["spec"] = {key: value for key, value in body["spec"].items() if not key.startswith("clusterIP")}
            told = await create(admin, body, dry_run=True)
            told["spec"] = {key: value for key, value in told["spec"].items() if not key.startswith("clusterIP")}
            found |= dict.fromkeys(differences(body["spec"], told["spec"]))
    assert [difference for difference in found if not re.match(KNOWN, difference)] == []


def differences(ours: Any, theirs: Any, path: str = "spec") -> list[str]:
    """Return where two documents differ, and how."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted({*ours, *theirs})
        return [each for key in keys for each in differences(ours.get(key), theirs.get(key), f"{path}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [each for place, (a, b) in pairs for each in differences(a, b, f"{path}[{place}]")]
    return [] if ours == theirs else [f"{path}: {ours!r} here, {theirs!r} there"]
