"""Whoever acts on the stand behind the gym's back is noticed and recorded, and nobody else is taken for him."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import msgspec
import pyarrow.parquet as pq
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.archive import read_archive
from otel_control_gym.engine.command_line.act import ask, parse_words
from otel_control_gym.engine.events import ActionApplied
from otel_control_gym.engine.settings import RunConfig

MERGE = "application/merge-patch+json"


def config(**scenario: Any) -> RunConfig:
    run = ocg.resolve("small-core", workload="steady", seed=7)
    return msgspec.structs.replace(
        run,
        public=msgspec.structs.replace(run.public, horizon_seconds=300),
        workload=msgspec.structs.replace(run.workload, users=20),
        scenario=msgspec.structs.replace(run.scenario, **scenario),
    )


async def kubectl(env: ocg.Env, method: str, path: str, body: Any = None, content_type: str = MERGE) -> Any:
    """Do what kubectl does, past the gym."""
    headers = {"Content-Type": content_type, "User-Agent": "kubectl/v1.33.0"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{env.endpoints.kubernetes}/{path}", json=body, headers=headers) as answer,
    ):
        assert answer.status < 300, await answer.text()
        return await answer.json()


APPS = "apis/apps/v1/namespaces/otel-demo"
CORE = "api/v1/namespaces/otel-demo"


def rows(env: ocg.Env, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(env.run_dir / f"{table}.parquet").to_pylist()
    return found


def externals(env: ocg.Env) -> list[dict[str, Any]]:
    return [row for row in rows(env, "actions") if row["action_type"] == "external"]


async def test_a_scaling_by_hand_is_an_external_action_of_a_human_and_explains_its_pods(tmp_path: Path) -> None:
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        await env.step(ocg.Noop(), dt=30)
        await kubectl(env, "PATCH", f"{APPS}/deployments/cart/scale", {"spec": {"replicas": 3}})
        observation, *_ = await env.step(ocg.Noop(), dt=30)
    (row,) = externals(env)
    assert (row["actor"], row["action_class"], row["target"], row["status"]) == ("human", "action", "cart", "applied")
    assert '"manager": "kubectl"' in row["parameters"]
    assert "spec.replicas" in row["parameters"]
    assert row["visibility"] == "public"
    caused = [item for item in observation.events if item.caused_by_action_id == row["action_id"]]
    assert any(item.object.startswith("Pod/cart-") for item in caused)
    assert ocg.validate(env.run_dir) == []


async def test_deeds_by_hand_are_told_apart_from_ours_and_the_controllers(tmp_path: Path) -> None:
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        for action in (
            ocg.Scale("frontend", replicas=3),
            ocg.Restart("cart"),
            ocg.DeletePod("frontend", count=1),
            ocg.ShiftTraffic("quote", version="2.2.0", weight_percent=50, duration_seconds=30),
            ocg.SetAutoscaler("frontend", min_replicas=2, max_replicas=4),
            ocg.PodKill("cart", pods_percent=100, duration_seconds=10),
            ocg.Noop(),
        ):
            await env.step(action, dt=30)
    assert externals(env) == []


async def test_a_pod_deleted_by_hand_is_noticed(tmp_path: Path) -> None:
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        pods = await kubectl(env, "GET", f"{CORE}/pods?labelSelector=opentelemetry.io/name=cart")
        name = pods["items"][0]["metadata"]["name"]
        await kubectl(env, "DELETE", f"{CORE}/pods/{name}", {"gracePeriodSeconds": 0}, "application/json")
        await env.step(ocg.Noop(), dt=30)
    (row,) = externals(env)
    assert (row["target"], f"Pod/{name}" in row["parameters"]) == ("cart", True)
    gone = [item for item in rows(env, "events") if item["object"] == f"Pod/{name}" and item["type"] == "deleted"]
    assert [item["caused_by_action_id"] for item in gone] == [row["action_id"]]


async def test_a_fault_by_hand_is_recorded_where_a_policy_can_t_see_it(tmp_path: Path) -> None:
    body = {
        "apiVersion": "chaos-mesh.org/v1alpha1",
        "kind": "StressChaos",
        "metadata": {"name": "by-hand"},
        "spec": {
            "mode": "all",
            "selector": {"labelSelectors": {"opentelemetry.io/name": "cart"}},
            "stressors": {"cpu": {"workers": 1, "load": 50}},
            "duration": "20s",
        },
    }
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        path = "apis/chaos-mesh.org/v1alpha1/namespaces/otel-demo/stresschaos"
        await kubectl(env, "POST", path, body, "application/json")
        await env.step(ocg.Noop(), dt=30)
    (row,) = externals(env)
    assert (row["action_class"], row["visibility"]) == ("intervention", "truth")
    assert "StressChaos/by-hand" in row["parameters"]


async def test_whom_a_human_s_fault_kills_belongs_to_the_truth_as_it_does(tmp_path: Path) -> None:
    body = {
        "apiVersion": "chaos-mesh.org/v1alpha1",
        "kind": "PodChaos",
        "metadata": {"name": "by-hand"},
        "spec": {
            "action": "pod-kill",
            "mode": "all",
            "selector": {"labelSelectors": {"opentelemetry.io/name": "cart"}},
        },
    }
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        pods = await kubectl(env, "GET", f"{CORE}/pods?labelSelector=opentelemetry.io/name=cart")
        victims = [pod["metadata"]["name"] for pod in pods["items"]]
        path = "apis/chaos-mesh.org/v1alpha1/namespaces/otel-demo/podchaos"
        await kubectl(env, "POST", path, body, "application/json")
        await env.step(ocg.Noop(), dt=30)
        await kubectl(env, "DELETE", f"{path}/by-hand")
        await env.step(ocg.Noop(), dt=30)
    assert [row["visibility"] for row in externals(env)] == ["truth", "truth"]
    made, deleted = externals(env)
    assert ('"operation": "created"' in made["parameters"], '"operation": "deleted"' in deleted["parameters"]) == (
        True,
        True,
    )
    gone = [item for item in rows(env, "events") if item["source"] == "pods" and item["type"] == "deleted"]
    assert sorted(item["object"] for item in gone) == sorted(f"Pod/{name}" for name in victims)
    assert all(item["caused_by_action_id"] is None for item in gone), "a public row gives an intervention away"
    log = read_archive(env.run_dir / "event_log.zst")
    touched = [
        item.name
        for entry in log
        if isinstance(entry.event, ActionApplied) and entry.event.action_id == made["action_id"] and entry.truth
        for item in entry.event.objects
    ]
    assert sorted(touched) == sorted(["by-hand", *victims])
    assert ocg.validate(env.run_dir) == []


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("HorizontalPodAutoscaler", "apis/autoscaling/v2/namespaces/otel-demo/horizontalpodautoscalers/frontend"),
        ("Deployment", "apis/apps/v1/namespaces/otel-demo/deployments/quote-canary"),
        ("Service", "api/v1/namespaces/otel-demo/services/frontend-canary"),
        ("HTTPRoute", "apis/gateway.networking.k8s.io/v1/namespaces/otel-demo/httproutes/frontend-split"),
    ],
)
async def test_what_is_deleted_by_hand_is_noticed_and_what_we_delete_is_ours(
    kind: str, path: str, tmp_path: Path
) -> None:
    """The same object is once taken away by us at its time, and once by somebody else before."""
    route = {"type": "shift_traffic", "target": "frontend", "version": "2.2.0", "weight_percent": 50, "via": "route"}
    made = {
        "HorizontalPodAutoscaler": {
            "type": "set_autoscaler",
            "target": "frontend",
            "min_replicas": 2,
            "max_replicas": 4,
        },
        "Deployment": {"type": "shift_traffic", "target": "quote", "version": "2.2.0", "weight_percent": 50},
    }.get(kind, route)
    for by_hand in (False, True):
        async with ocg.make(config(), data_dir=tmp_path) as env:
            await env.reset()
            await env.step({**made, "duration_seconds": 60}, dt=30)
            if by_hand:
                await kubectl(env, "DELETE", path)
            await env.step(ocg.Noop(), dt=90)
        found = [(row["actor"], row["visibility"]) for row in externals(env) if f"{kind}/" in row["parameters"]]
        assert found == ([("human", "public")] if by_hand else []), by_hand
        assert by_hand or externals(env) == []


async def test_ids_of_external_actions_do_not_tell_of_hidden_writes(tmp_path: Path) -> None:
    fault = {"type": "network_delay", "target": "frontend->cart", "intensity": "zero", "duration_seconds": 60}
    ids = []
    for plan in ((), (ocg.PlannedAction(at_seconds=5, action=fault),)):
        async with ocg.make(config(interventions=plan), data_dir=tmp_path) as env:
            await env.reset()
            await env.step(ocg.Noop(), dt=30)
            for replicas in (3, 2):
                await kubectl(env, "PATCH", f"{APPS}/deployments/cart/scale", {"spec": {"replicas": replicas}})
                await env.step(ocg.Noop(), dt=30)
        ids.append([row["action_id"] for row in externals(env)])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


async def test_an_unrelated_death_at_the_same_moment_has_no_cause(tmp_path: Path) -> None:
    """Linked is what an action touched, and what belongs to that; nearness in time is no cause."""
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        pods = await kubectl(env, "GET", f"{CORE}/pods?labelSelector=opentelemetry.io/name=email")
        name = pods["items"][0]["metadata"]["name"]
        await kubectl(env, "DELETE", f"{CORE}/pods/{name}", {"gracePeriodSeconds": 0}, "application/json")
        _, _, _, info = await env.step(ocg.DeletePod("cart", count=1), dt=30)
        ours = info["action"]
        assert ours is not None
    (by_hand,) = externals(env)
    causes = {
        item["object"].partition("/")[2].rpartition("-")[0].rpartition("-")[0]: item["caused_by_action_id"]
        for item in rows(env, "events")
        if item["source"] == "pods" and item["type"] == "deleted"
    }
    assert causes == {"cart": ours.action_id, "email": by_hand["action_id"]}


@pytest.mark.parametrize("planned", [True, False])
async def test_what_an_intervention_causes_names_it_in_the_truth_alone(planned: bool, tmp_path: Path) -> None:
    kill = {"type": "pod_kill", "target": "cart", "pods_percent": 100, "duration_seconds": 20}
    plan = (ocg.PlannedAction(at_seconds=10, action=kill),) if planned else ()
    async with ocg.make(config(interventions=plan), data_dir=tmp_path) as env:
        await env.reset()
        await env.step(ocg.Noop(), dt=60)
    dead = [item for item in rows(env, "events") if item["source"] == "pods" and item["type"] == "deleted"]
    assert bool(dead) == planned
    assert all(item["caused_by_action_id"] is None for item in dead), "a public row gives an intervention away"
    assert externals(env) == []


async def test_a_human_acts_in_a_live_episode_with_the_same_log_and_checks(tmp_path: Path) -> None:
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        assert env.run_id is not None
        answer = await ask(env.run_id, {"type": "scale", "target": "cart", "replicas": 3}, tmp_path, None, 20.0)
        assert answer["record"]["status"] == "pending"
        _, _, _, info = await env.step(ocg.Scale("cart", replicas=1), dt=30)
        assert info["action"] is not None
        assert info["action"].status == "rejected", "the human's scaling was in flight"
        assert [item.action_id for item in info["settled"]] == [answer["record"]["action_id"]]
    human = next(row for row in rows(env, "actions") if row["actor"] == "human")
    assert (human["status"], human["precheck_status"], human["postcheck_status"]) == ("applied", "passed", "effective")
    assert human["decision_step"] is None
    assert externals(env) == [], "what goes through the gym isn't behind its back"
    assert ocg.validate(env.run_dir) == []


async def test_a_human_s_fault_stays_hidden_from_the_policy(tmp_path: Path) -> None:
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        fault = {"type": "cpu_pressure", "target": "cart", "duration_seconds": 20}
        await ask("latest", fault, tmp_path, None, 20.0)
        _, _, _, info = await env.step(ocg.Noop(), dt=60)
        assert info["settled"] == []
    (row,) = [row for row in rows(env, "actions") if row["action_class"] == "intervention"]
    assert (row["actor"], row["visibility"], row["status"]) == ("human", "truth", "applied")


async def test_requests_during_a_step_are_carried_out_in_it(tmp_path: Path) -> None:
    """The step is held up between two moments, so that the request surely comes while it is under way."""
    async with ocg.make(config(), data_dir=tmp_path, pace=30.0) as env:
        await env.reset()
        async with anyio.create_task_group() as tasks:
            answers: list[dict[str, Any]] = []

            async def human() -> None:
                answers.append(await ask("latest", {"type": "restart", "target": "cart"}, tmp_path, None, 20.0))

            tasks.start_soon(human)
            _, _, _, info = await env.step(ocg.Noop(), dt=60)
        assert [item.action_id for item in info["settled"]] == [answers[0]["record"]["action_id"]]


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ({"type": "scale", "target": "crt", "replicas": 1}, "did you mean 'cart'?"),
        ({"type": "scale", "target": "cart", "replicas": 99}, "from 0 to 20 pods"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong_and_logs_nothing(
    action: dict[str, Any], says: str, tmp_path: Path
) -> None:
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        with pytest.raises(ocg.UsageError, match=re.escape(says)):
            await ask("latest", action, tmp_path, None, 20.0)
    assert [row for row in rows(env, "actions") if row["actor"] == "human"] == []


async def test_a_run_that_is_over_can_not_be_acted_in(tmp_path: Path) -> None:
    async with ocg.make(config(), data_dir=tmp_path) as env:
        await env.reset()
        await env.step(ocg.Noop(), dt=300)
        with pytest.raises(ocg.UsageError, match=r"over \(horizon\)"):
            await ask("latest", {"type": "noop"}, tmp_path, None, 20.0)
        run_id = env.run_id or ""
    with pytest.raises(ocg.LogError, match="only an episode in progress"):
        await ask(run_id, {"type": "noop"}, tmp_path, None, 20.0)


@pytest.mark.parametrize(
    ("words", "mapping"),
    [
        (["noop"], {"type": "noop"}),
        (["scale", "target=cart", "replicas=3"], {"type": "scale", "target": "cart", "replicas": 3}),
        (['{"type": "noop"}'], {"type": "noop"}),
        (
            ["rollout_config", "target=cart", 'env={"A": "b"}'],
            {"type": "rollout_config", "target": "cart", "env": {"A": "b"}},
        ),
        (["network_delay", "target=frontend->cart"], {"type": "network_delay", "target": "frontend->cart"}),
    ],
)
def test_words_on_a_command_line_are_an_action(words: list[str], mapping: dict[str, Any]) -> None:
    assert parse_words(words) == mapping


@pytest.mark.parametrize(("words", "says"), [(["scale", "cart"], "KEY=VALUE"), (["{type"], "isn't JSON")])
def test_words_that_are_none_are_told_apart(words: list[str], says: str) -> None:
    with pytest.raises(ocg.UsageError, match=says):
        parse_words(words)
