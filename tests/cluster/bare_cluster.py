"""A cluster without nodes that the suite of every action can run on: a real API server, stand-ins for what would run below it.

    OCG_KUBE_BINARIES=FOLDER python -m tests.cluster.bare_cluster --kubeconfig bare.kubeconfig

In: the programs (`processes`). Out: a kubeconfig of the admin, written once everything is there: the namespaces and the roles of `deploy/`,
Chaos Mesh's definitions, the Deployments and Services of small-core as the twin installs them. It lives until it is interrupted.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import yaml

import otel_control_gym as ocg
from otel_control_gym.actuators.kubernetes_client import KubernetesClient, open_kubernetes
from otel_control_gym.actuators.transport import Busy, Refused
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.twin.manifests import deployment, service
from tests.cluster.chaos_controller import ChaosController, custom_resources
from tests.cluster.kubelet import Kubelet
from tests.cluster.metrics_server import MetricsServer
from tests.cluster.metrics_server import definition as metrics_definition
from tests.cluster.processes import Server, missing_programs, open_server

__all__ = ("CONFIGURATION", "NAMESPACE", "admin_of", "install", "open_cluster", "stand_in")

CONFIGURATION, NAMESPACE = "small-core", "otel-demo"
MANIFESTS = Path(__file__).parents[2] / "deploy" / "stand"
_PATIENCE_SECONDS = 120.0
_PLACES = {
    "Namespace": "api/v1/namespaces",
    "ServiceAccount": "api/v1/namespaces/{}/serviceaccounts",
    "Service": "api/v1/namespaces/{}/services",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Role": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ClusterRole": "apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "CustomResourceDefinition": "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "Job": "apis/batch/v1/namespaces/{}/jobs",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "PersistentVolumeClaim": "api/v1/namespaces/{}/persistentvolumeclaims",
    "Secret": "api/v1/namespaces/{}/secrets",
}


def admin_of(server: Server) -> Endpoints:
    """Return where a server is, as its admin."""
    return Endpoints(
        kubernetes=server.url,
        namespace=NAMESPACE,
        prometheus="",
        coroot="",
        load_generator="",
        flagd="",
        kubernetes_token=server.token,
        kubernetes_ca_file=str(server.authority),
    )


def documents(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a manifest."""
    yield from (document for document in yaml.safe_load_all(path.read_text()) if document)


async def create(kubernetes: KubernetesClient, document: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
    """Create an object; unknown and doubled fields are refused.

    Raises: CallError: the server doesn't take it.
    """
    path = _PLACES[document["kind"]].format(document["metadata"].get("namespace", "default"))
    query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
    made: dict[str, Any] = await kubernetes.call("POST", path, dict, body=document, query=query)
    return made


async def install(kubernetes: KubernetesClient) -> None:
    """Create what the suite needs."""
    for definition in (*custom_resources(), metrics_definition()):
        await create(kubernetes, definition)
    for name in ("namespaces.yaml", "rbac.yaml", "policy-rbac.yaml", "network-policies.yaml"):
        for document in documents(MANIFESTS / name):
            await create(kubernetes, document)
    application = ocg.resolve(CONFIGURATION, workload="steady", seed=7).public.services
    for name, settings in application.services.items():
        made = deployment(application, name, settings)
        await create(kubernetes, {"apiVersion": "apps/v1", "kind": "Deployment"} | made)
        if settings.listens:
            body = service(application, name, settings)
            await create(kubernetes, {"apiVersion": "v1", "kind": "Service"} | body)


async def stand_in(kubernetes: KubernetesClient) -> None:
    """Do the work of a kubelet, a metrics-server and a chaos controller until cancelled.

    Raises: RuntimeError: the cluster has nodes, whose kubelets do theirs.
    """
    nodes = await kubernetes.call("GET", "api/v1/nodes", dict)
    if nodes["items"]:
        raise RuntimeError("the cluster has nodes: nobody stands in for them")
    kubelet = Kubelet(kubernetes, NAMESPACE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kubelet.run)
        tasks.start_soon(ChaosController(kubernetes, NAMESPACE, kubelet).run)
        tasks.start_soon(MetricsServer(kubernetes, NAMESPACE).run)


async def _calm(kubernetes: KubernetesClient) -> None:
    path = f"apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    with anyio.fail_after(_PATIENCE_SECONDS):
        while True:
            items = (await kubernetes.call("GET", path, dict))["items"]
            if all(item.get("status", {}).get("availableReplicas") == item["spec"]["replicas"] for item in items):
                return
            await anyio.sleep(0.5)


async def _serves_what_was_defined(kubernetes: KubernetesClient) -> None:
    """Wait until the server serves the kinds that were just defined."""
    with anyio.fail_after(_PATIENCE_SECONDS):
        for spec in [definition["spec"] for definition in (*custom_resources(), metrics_definition())]:
            path = f"apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
            while True:
                try:
                    await kubernetes.call("GET", path, dict)
                    break
                except (Refused, Busy):
                    await anyio.sleep(0.2)


@asynccontextmanager
async def open_cluster(folder: Path) -> AsyncIterator[Server]:
    """Start everything, and yield the server once every Deployment is available."""
    async with open_server(folder) as server, open_kubernetes(admin_of(server)) as kubernetes:
        await install(kubernetes)
        await _serves_what_was_defined(kubernetes)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stand_in, kubernetes)
            await _calm(kubernetes)
            yield server
            tasks.cancel_scope.cancel()


async def _serve(kubeconfig: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_cluster(Path(folder)) as server:
            server.kubeconfig(kubeconfig, namespace=NAMESPACE)
            try:
                async for _ in signals:
                    return
            finally:
                await anyio.Path(kubeconfig).unlink()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kubeconfig", type=Path, required=True, help="where the admin's is written, and removed at the end"
    )
    arguments = parser.parse_args()
    if problem := missing_programs():
        parser.error(problem)
    anyio.run(_serve, arguments.kubeconfig)


if __name__ == "__main__":
    main()
