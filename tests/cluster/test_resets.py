"""Kubernetes itself stores and rolls what a reset restores: its defaults, its rollouts, its rights. What serves users is a twin's.

A bare API server has no pods that serve, so Prometheus, the load generator and flagd are those of a twin that is served beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.actuators.kubernetes_client import KubernetesClient
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.connection import MERGE_PATCH, Connection
from otel_control_gym.stands.cluster.known_state import Reset, restore
from tests.cluster.bare_cluster import NAMESPACE
from tests.stands.cluster.served import CONFIG

pytestmark = pytest.mark.timeout(400)
DEPLOYMENTS = f"apis/apps/v1/namespaces/{NAMESPACE}/deployments"


@asynccontextmanager
async def operated(admin: KubernetesClient, endpoints: Endpoints, folder: Path) -> AsyncIterator[Connection]:
    """Connect as the account of the gym, with the services of a twin."""
    path = "api/v1/namespaces/ocg-system/serviceaccounts/ocg-operator/token"
    answer: dict[str, Any] = await admin.call("POST", path, dict, body={"spec": {"expirationSeconds": 600}})
    async with ocg.serve_twin(CONFIG, pace=60.0, kubeconfig=folder / "twin", data_dir=folder) as twin:
        there = msgspec.structs.replace(
            endpoints,
            namespace=NAMESPACE,
            safekeeping="ocg-system",
            kubernetes_token=answer["status"]["token"],
            prometheus=twin.endpoints.prometheus,
            load_generator=twin.endpoints.load_generator,
            flagd=twin.endpoints.flagd,
            flagd_evaluation=twin.endpoints.flagd,
        )
        async with Connection(there) as connection:
            yield connection


async def test_what_was_changed_on_kubernetes_is_taken_back_and_what_holds_state_restarts_first(
    admin: KubernetesClient, endpoints: Endpoints, tmp_path: Path
) -> None:
    async def nothing_left() -> tuple[str, ...]:
        return ()

    async with operated(admin, endpoints, tmp_path) as connection:

        async def reset(level: Any = "soft", **options: Any) -> Reset:
            patience = Patience(seconds=120.0, look_seconds=0.2)
            return await restore(connection, CONFIG, level, remove_chaos=nothing_left, patience=patience, **options)

        assert (await reset(adopt=True)).adopted
        for name, spec in (("cart", {"replicas": 3, "paused": True}), ("quote", {"replicas": 0})):
            path = f"{DEPLOYMENTS}/{name}"
            answer = await connection.kubernetes("PATCH", path, body={"spec": spec}, content_type=MERGE_PATCH)
            assert answer.ok, answer.problem
        again = await reset()
        assert sorted(again.restored) == [f"{DEPLOYMENTS}/cart", f"{DEPLOYMENTS}/quote"]
        assert again.verification.pod_networks is not None
        assert not again.verification.band_measured

        restarted = (await reset("data", hold_seconds=0.0)).restarted
        assert restarted[:3] == ("valkey-cart", "postgresql", "flagd")
        assert len(restarted) == len(CONFIG.public.services.services)
        assert (await reset(hold_seconds=0.0)).restored == ()
