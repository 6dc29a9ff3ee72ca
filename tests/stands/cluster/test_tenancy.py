"""A cluster is driven by one environment at a time, whatever machine, data directory or broker it comes from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.clock import SECOND, rfc3339, wall_now
from otel_control_gym.stands.cluster.connection import MERGE_PATCH, Connection
from otel_control_gym.stands.cluster.tenancy import LEASE_SECONDS, tenancy
from otel_control_gym.stands.twin.stand import TwinStand
from tests.kubeconfigs import written_kubeconfig

LEASES = "apis/coordination.k8s.io/v1/namespaces/ocg-system/leases"
LEASE = f"{LEASES}/ocg-stand-otel-demo"
CONFIG = ocg.resolve("small-core", workload="steady", seed=7)


@asynccontextmanager
async def stand() -> AsyncIterator[Connection]:
    """Open a stand that has no namespace for Leases yet."""
    twin = TwinStand()
    async with twin.open():
        await twin.reset(CONFIG, otlp_endpoint="")
        endpoints = msgspec.structs.replace(twin.endpoints, safekeeping="ocg-system")
        async with Connection(endpoints) as connection:
            yield connection


async def hold(connection: Connection) -> None:
    async with tenancy(connection):
        pass


async def rewrite(connection: Connection, holder: str, renewed: int) -> None:
    """Write a Lease as somebody else does."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": rfc3339(renewed)}
    answer = await connection.kubernetes("PATCH", LEASE, body={"spec": spec}, content_type=MERGE_PATCH)
    assert answer.ok, answer.problem


async def test_a_stand_that_is_held_is_refused_and_one_that_was_given_back_is_free() -> None:
    async with stand() as connection:
        for _ in range(2):
            async with tenancy(connection):
                with pytest.raises(
                    ocg.StandTaken, match=r"namespace otel-demo is driven by .+-\d+-\d+, last seen at 20\d\d-"
                ):
                    await hold(connection)


async def test_a_stand_whose_holder_died_is_free_after_its_time() -> None:
    async with stand() as connection:
        await hold(connection)
        await rewrite(connection, "gone-1-1", wall_now() - (LEASE_SECONDS - 5) * SECOND)
        with pytest.raises(ocg.StandTaken, match="driven by gone-1-1"):
            await hold(connection)
        await rewrite(connection, "gone-1-1", wall_now() - (LEASE_SECONDS + 5) * SECOND)
        await hold(connection)


async def hold_until_lost(connection: Connection) -> None:
    async with tenancy(connection, seconds=1):
        await rewrite(connection, "other-1-1", wall_now())
        await anyio.sleep_forever()


async def test_a_holder_after_whom_somebody_came_is_stopped_and_gives_nothing_back() -> None:
    async with stand() as connection:
        with anyio.fail_after(60), pytest.raises(ExceptionGroup) as raised:
            await hold_until_lost(connection)
        assert raised.group_contains(ocg.StandError, match="was lost to 'other-1-1'")
        found = await connection.kubernetes("GET", LEASE)
        assert found.text("spec", "holderIdentity") == "other-1-1"


async def test_a_lease_is_renewed_as_long_as_it_is_held() -> None:
    async with stand() as connection, tenancy(connection, seconds=1):
        first = (await connection.kubernetes("GET", LEASE)).text("spec", "renewTime")
        with anyio.fail_after(60):
            while (await connection.kubernetes("GET", LEASE)).text("spec", "renewTime") == first:  # noqa: ASYNC110 - it tells nobody
                await anyio.sleep(0.02)


@pytest.mark.parametrize("missing", ["token", "server"])
async def test_a_kubeconfig_that_leads_nowhere_is_refused_before_anything_begins(missing: str, tmp_path: Path) -> None:
    user = {"token": "t"} if missing != "token" else {"username": "me"}
    kubeconfig = written_kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", user=user)
    if missing == "token":
        with pytest.raises(ocg.UsageError, match="user 'u'"):
            ocg.make("small-core", kubeconfig=kubeconfig, data_dir=tmp_path / "data")
    else:
        env = ocg.make("small-core", kubeconfig=kubeconfig, data_dir=tmp_path / "data")
        with pytest.raises(ocg.StandError, match=r"https://127\.0\.0\.1:1: .* no answer"):
            await env.__aenter__()
    assert [*(tmp_path / "data").glob("campaign=*")] == []
