"""Whatever somebody did to a stand, a reset takes back, and says what it was; what it can't take back is an error and no run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.baseline import kept_deployment, restoring
from otel_control_gym.stands.cluster.connection import MERGE_PATCH, Connection
from otel_control_gym.stands.cluster.known_state import Reset, restart_layers, restore
from otel_control_gym.stands.cluster.stand_flags import read_flags
from tests.stands.cluster.served import CONFIG, USERS, connected

DEPLOYMENTS = "apis/apps/v1/namespaces/otel-demo/deployments"
PATIENCE = Patience(seconds=60.0, look_seconds=0.2)
HPA = {
    "metadata": {"name": "ours", "labels": {"app.kubernetes.io/managed-by": "otel-control-gym"}},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "quote"},
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
            }
        ],
    },
}


async def nothing_left() -> tuple[str, ...]:
    return ()


async def reset(connection: Connection, level: Any = "soft", **options: Any) -> Reset:
    """Reset without the minute in the band, which `test_verification` has."""
    options = {"hold_seconds": 0.0, "patience": PATIENCE, **options}
    return await restore(connection, CONFIG, level, remove_chaos=nothing_left, **options)


async def wanted(connection: Connection) -> dict[str, Any]:
    """Return what is wanted of each Deployment."""
    items = (await connection.kubernetes("GET", DEPLOYMENTS)).items
    return {item["metadata"]["name"]: msgspec.to_builtins(kept_deployment(item)) for item in items}


async def patch(connection: Connection, name: str, spec: dict[str, Any]) -> None:
    answer = await connection.kubernetes(
        "PATCH", f"{DEPLOYMENTS}/{name}", body={"spec": spec}, content_type=MERGE_PATCH
    )
    assert answer.ok, answer.problem


async def switch(connection: Connection, flag: str, variant: str) -> None:
    """Give a flag another variant, as an intervention does."""
    base = connection.endpoints.flagd
    document = (await connection.service(base, "", "feature/api/read")).body
    document["flags"][flag]["defaultVariant"] = variant
    assert (await connection.post(f"{base}/feature/api/write", body={"data": document})).ok


@pytest.mark.timeout(300)
async def test_a_reset_takes_back_what_was_done_and_says_what(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        first = await reset(connection)
        assert (first.adopted, first.restored) == (True, ())  # nobody had said what is wanted: what was there, it is
        before, flags = await wanted(connection), await read_flags(connection)

        environment = [{"name": "CART_ADDR", "value": "nowhere:1"}]
        template = copy.deepcopy(before["frontend"]["spec"]["template"])
        template["spec"]["containers"][0]["env"] = environment
        await patch(connection, "frontend", {"template": template})
        await patch(connection, "cart", {"replicas": 3, "paused": True})
        await patch(connection, "quote", {"replicas": 0})
        await switch(connection, "cartFailure", "on")
        made = await connection.kubernetes(
            "POST", "apis/autoscaling/v2/namespaces/otel-demo/horizontalpodautoscalers", body=HPA
        )
        assert made.ok, made.problem
        base = connection.endpoints.load_generator
        assert (await connection.post(f"{base}/swarm", form={"user_count": "3", "spawn_rate": "9"})).ok
        assert await wanted(connection) != before

        second = await reset(connection)
        assert sorted(second.restored) == [
            f"{DEPLOYMENTS}/cart",
            f"{DEPLOYMENTS}/frontend",
            f"{DEPLOYMENTS}/quote",
            "flag cartFailure",
        ]
        assert [path.rpartition("/")[2] for path in second.removed] == ["ours"]
        assert (await wanted(connection), await read_flags(connection)) == (before, flags)
        cart = await connection.kubernetes("GET", f"{DEPLOYMENTS}/cart")
        assert not cart.find("spec", "paused")
        account = await connection.service(base, "", "ocg/workload")
        assert (account.text("state"), account.find("users_active")) == ("running", USERS)

        third = await reset(connection)
        assert (third.restored, third.removed) == ((), ())

        # What is there may be made what is wanted: by whoever says so, and by nobody else.
        await patch(connection, "quote", {"replicas": 2})
        assert (await reset(connection, adopt=True)).adopted
        assert (await reset(connection)).restored == ()
        assert (await wanted(connection))["quote"]["spec"]["replicas"] == 2

        deleted = await connection.kubernetes("DELETE", f"{DEPLOYMENTS}/quote")
        assert deleted.ok
        with pytest.raises(ocg.StandError, match="has no Deployment quote, which small-core needs"):
            await reset(connection)


@pytest.mark.timeout(300)
async def test_a_reset_of_data_restarts_what_holds_state_and_then_its_clients(tmp_path: Path) -> None:
    async with connected(tmp_path) as connection:
        await reset(connection)
        done = await reset(connection, "data")
        assert done.restarted[:3] == ("valkey-cart", "postgresql", "flagd")
        assert done.restarted[-2:] == ("frontend", "load-generator")
        assert len(done.restarted) == len(CONFIG.public.services.services)
        pods = (await connection.kubernetes("GET", "api/v1/namespaces/otel-demo/pods")).items
        started = {
            pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["metadata"]["creationTimestamp"]
            for pod in pods
        }
        assert started["postgresql"] <= started["product-catalog"] <= started["frontend"] <= started["load-generator"]
        assert (await reset(connection)).restored == ()  # a restart changes nothing that is wanted


@pytest.mark.parametrize("level", ["reinstall"])
async def test_a_run_installs_nothing(level: Any) -> None:
    with pytest.raises(ocg.StandError, match="`ocg stand reset --level reinstall`"):
        await restore(None, CONFIG, level, remove_chaos=None)  # type: ignore[arg-type]  # neither is looked at


def test_callers_are_restarted_after_those_that_they_call() -> None:
    for name in ("small-core", "medium-store", "review-store", "async-store"):
        services = ocg.resolve(name).public.services
        layers = restart_layers(services)
        position = {service: number for number, layer in enumerate(layers) for service in layer}
        assert sorted(position) == sorted(services.services)
        stateful = [service for service, settings in services.services.items() if settings.stateful]
        assert layers[0] == stateful
        for edge in services.edges:
            if edge.source not in stateful:
                assert position[edge.target] < position[edge.source], edge


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    return {"metadata": {"uid": "1"}, "spec": {"replicas": 1, "template": template} | spec}


def test_a_rolling_restart_is_nobody_s_wish() -> None:
    restarted = copy.deepcopy(deployment())
    restarted["spec"]["template"]["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"
    }
    assert restoring(kept_deployment(deployment()), kept_deployment(restarted), restarted) == []


def test_only_what_differs_is_patched() -> None:
    changed = deployment(replicas=4, paused=True)
    assert restoring(kept_deployment(deployment()), kept_deployment(changed), changed) == [
        {"op": "add", "path": "/spec/replicas", "value": 1},
        {"op": "remove", "path": "/spec/paused"},
    ]
