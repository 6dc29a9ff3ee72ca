"""A served twin as a cluster: over TLS, with a token, its services behind the API server's proxy; faster than we are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

import otel_control_gym as ocg
from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.stand import opened_endpoints
from otel_control_gym.stands.cluster.tenancy import tenancy

PACE = 20.0
USERS = 20
_CONFIG = ocg.resolve("small-core", workload="steady", seed=7)
CONFIG = msgspec.structs.replace(_CONFIG, workload=msgspec.structs.replace(_CONFIG.workload, users=USERS))


@asynccontextmanager
async def served_cluster(folder: Path) -> AsyncIterator[ClusterAccess]:
    """Serve a twin, and yield how it is reached."""
    kubeconfig = folder / "kubeconfig"
    async with ocg.serve_twin(CONFIG, pace=PACE, kubeconfig=kubeconfig, data_dir=folder):
        yield ClusterAccess(kubeconfig=kubeconfig)


@asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[Connection]:
    """Serve a twin, connect to it and hold it."""
    async with (
        served_cluster(folder) as access,
        opened_endpoints(access) as endpoints,
        Connection(endpoints) as connection,
        tenancy(connection),
    ):
        yield connection
