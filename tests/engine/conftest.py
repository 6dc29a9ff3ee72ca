"""One real embedded nats-server for the whole session; each test gets a connection and runs of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from otel_control_gym.engine.broker import Broker, RemoteBroker, open_broker
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.engine.runs import rebuild

_NUMBERS = count(1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broker_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with open_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.url


@pytest.fixture
def broker(broker_url: str) -> Broker:
    return RemoteBroker(broker_url)


@pytest_asyncio.fixture
async def connection(broker: Broker) -> AsyncIterator[LogConnection]:
    async with LogConnection(broker) as connection:
        yield connection


@pytest.fixture
def new_run() -> Callable[[], str]:
    """Return ids of runs that nobody has used before, in the order of their making."""
    return lambda: f"RUN{next(_NUMBERS):06d}"


@pytest.fixture
def run_id(new_run: Callable[[], str]) -> str:
    return new_run()


@pytest_asyncio.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A server of the test's own, which it may kill."""
    async with open_broker(tmp_path) as broker:
        yield broker


KEPT = Path(__file__).parents[1] / "contract" / "version_1"


@pytest.fixture(scope="session")
def kept_run() -> Path:
    """The directory of a run that was written under version 1 of the data contract: a fault, and a scale-up at the same moment."""
    return next(KEPT.glob("campaign=*/service_config=*/run_*"))


@pytest.fixture(scope="session")
def run_directory(kept_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run as today's contract has it, in a data directory of its own."""
    parts = kept_run.relative_to(KEPT)
    return rebuild(kept_run, out=tmp_path_factory.mktemp("data") / parts)
