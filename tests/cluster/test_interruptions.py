"""A real API server's restart is a gap and loses nothing; a plugin's token that it doesn't know is exchanged for one that it does."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from otel_control_gym.actuators.kubernetes_client import KubernetesClient, open_kubernetes
from otel_control_gym.collectors import KubernetesCollector
from otel_control_gym.engine.clock import SECOND, wall_now
from otel_control_gym.engine.events import CollectorGap, PodsTransitioned
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.contexts import endpoints_of
from tests.cluster.bare_cluster import NAMESPACE, admin_of
from tests.cluster.processes import Server, free_port, missing_programs, serve_api, start_etcd

pytestmark = pytest.mark.timeout(400)
PODS = f"api/v1/namespaces/{NAMESPACE}/pods"


async def make_pod(server: Server, name: str) -> None:
    async with open_kubernetes(admin_of(server)) as kubernetes:
        spec = {"containers": [{"name": "c", "image": "busybox"}]}
        await kubernetes.call("POST", PODS, dict, body={"metadata": {"name": name}, "spec": spec})


async def told(collector: KubernetesCollector) -> tuple[list[tuple[str, str]], list[str]]:
    """Drain; return what was told of pods, and the gaps of their watch."""
    await collector.drain(Barrier(time=wall_now(), resource_version="", exact=False))
    events = [event for event, _ in collector.flush(wall_now())]
    rows = [row for event in events if isinstance(event, PodsTransitioned) for row in event.rows]
    gaps = [event.reason for event in events if isinstance(event, CollectorGap)]
    return [(row.pod, row.change) for row in rows], [gap for gap in gaps if gap.startswith("Pod:")]


async def test_what_happens_around_a_restart_of_the_server_is_told_once_and_the_restart_is_a_gap(
    tmp_path: Path,
) -> None:
    if problem := missing_programs():
        pytest.skip(problem)
    port, token = free_port(), "stays-the-same"
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(start_etcd(tmp_path))
        async with serve_api(tmp_path, etcd, port, token) as server:
            async with open_kubernetes(admin_of(server)) as kubernetes:
                await kubernetes.call("POST", "api/v1/namespaces", dict, body={"metadata": {"name": NAMESPACE}})
            await make_pod(server, "before")
            collector = KubernetesCollector(admin_of(server), now=wall_now() - SECOND)
            await stack.enter_async_context(collector.open())
            assert await told(collector) == ([("before", "added")], [])
        gaps = (await told(collector))[1]
        async with serve_api(tmp_path, etcd, port, token) as server:
            await make_pod(server, "after")
            rows: list[tuple[str, str]] = []
            with anyio.fail_after(60):
                while ("after", "added") not in rows:
                    await anyio.sleep(0.2)
                    more, named = await told(collector)
                    rows, gaps = rows + more, gaps + named
            assert [row for row in rows if row[0] == "before"] == []
            assert rows.count(("after", "added")) == 1
            assert gaps


async def test_a_service_account_s_token_comes_by_a_plugin_and_a_wrong_one_is_exchanged(
    admin: KubernetesClient, kubeconfig: Path, tmp_path: Path
) -> None:
    path = "api/v1/namespaces/ocg-system/serviceaccounts/ocg-operator/token"
    answer: dict[str, Any] = await admin.call("POST", path, dict, body={"spec": {"expirationSeconds": 600}})
    says = anyio.Path(tmp_path / "says")

    async def say(token: str) -> None:
        status = {"token": token, "expirationTimestamp": answer["status"]["expirationTimestamp"]}
        document = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
        await says.write_text(json.dumps(document))

    document = yaml.safe_load(await anyio.Path(kubeconfig).read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [str(says)]}
    document["users"][0]["user"] = {"exec": plugin}
    file = tmp_path / "plugin.kubeconfig"
    await anyio.Path(file).write_text(yaml.safe_dump(document))
    with endpoints_of(file) as endpoints:
        async with Connection(endpoints) as connection:
            await say("wrong")
            assert (await connection.kubernetes("GET", PODS)).status == 401
            await say(answer["status"]["token"])
            await anyio.sleep(1.1)  # it isn't run twice within a second
            assert (await connection.kubernetes("GET", PODS)).ok
            assert (await connection.kubernetes("GET", "api/v1/namespaces/kube-system/secrets")).status == 403
