"""One API server for all tests of this folder, which are skipped, with the reason, where there are no programs for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import msgspec
import pytest

from otel_control_gym.actuators.kubernetes_client import KubernetesClient, open_kubernetes
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.contexts import endpoints_of
from tests.cluster.processes import missing_programs

ROOT = Path(__file__).parents[2]
START_SECONDS = 300


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the admin's kubeconfig of a cluster without nodes."""
    if problem := missing_programs():
        pytest.skip(problem)
    path = tmp_path_factory.mktemp("bare") / "kubeconfig"
    command = [sys.executable, "-m", "tests.cluster.bare_cluster", "--kubeconfig", str(path)]
    environment = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as process:
        try:
            anyio.run(_written, path, process)
            yield path
        finally:
            process.terminate()
            process.wait(60)


async def _written(path: Path, process: subprocess.Popen[bytes]) -> None:
    with anyio.fail_after(START_SECONDS):
        while not path.exists():  # noqa: ASYNC240 - a process that starts tells nobody
            assert process.poll() is None, (process.stderr.read() if process.stderr else b"").decode()[-2000:]
            await anyio.sleep(0.5)


@pytest.fixture
def endpoints(kubeconfig: Path) -> Iterator[Endpoints]:
    """Return where it is, as its admin, who asks as much at a time as he likes."""
    with endpoints_of(kubeconfig) as found:
        yield msgspec.structs.replace(found, kubernetes_credentials=None)


@pytest.fixture
async def admin(endpoints: Endpoints) -> AsyncIterator[KubernetesClient]:
    """Return the admin's client."""
    async with open_kubernetes(endpoints) as kubernetes:
        yield kubernetes
