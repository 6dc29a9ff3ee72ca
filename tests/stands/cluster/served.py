"""A served twin as a cluster: over TLS, with a token, its services behind the API server's proxy; faster than we are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

import otel_control_gym as ocg
from otel_control_gym.actuators.permissions import needed
from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.deployment import accesses
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.cluster.stand import opened_endpoints
from otel_control_gym.stands.cluster.tenancy import tenancy

PACE = 20.0
USERS = 20
NAMESPACE, SYSTEM = "otel-demo", "ocg-system"


def configuration(name: str) -> RunConfig:
    """Return a run of an application under a load that a fast twin can bear."""
    config = ocg.resolve(name, workload="steady", seed=7)
    return msgspec.structs.replace(config, workload=msgspec.structs.replace(config.workload, users=USERS))


CONFIG = configuration("small-core")
_GRANTED = {(access.namespace, access.group, access.resource, access.verb) for access in accesses(NAMESPACE, SYSTEM)}


class GrantedConnection(Connection):
    """A connection that may do what `deploy/stand/rbac.yaml` grants the gym in the stand's two namespaces, and no more."""

    async def kubernetes(self, method: str, path: str, **options: Any) -> Answer:
        place = path.split("/namespaces/", 1)[-1].partition("/")
        if place[0] in (NAMESPACE, SYSTEM) and place[2] and "/proxy" not in path:
            asked = needed(method, path)
            assert (place[0], asked.group, asked.resource, asked.verb) in _GRANTED, f"{method} {path}: {asked}"
        return await super().kubernetes(method, path, **options)


@asynccontextmanager
async def connected(folder: Path, config: RunConfig = CONFIG, pace: float = PACE) -> AsyncIterator[Connection]:
    """Serve a twin, connect to it and hold it."""
    kubeconfig = folder / "kubeconfig"
    async with (
        ocg.serve_twin(config, pace=pace, kubeconfig=kubeconfig, data_dir=folder),
        opened_endpoints(ClusterAccess(kubeconfig=kubeconfig)) as endpoints,
        GrantedConnection(endpoints) as connection,
        tenancy(connection),
    ):
        yield connection
