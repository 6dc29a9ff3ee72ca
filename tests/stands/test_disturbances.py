"""What is done to the cluster is felt by its users as on a real one: partitions, kills, bad builds, canaries, autoscaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import RunConfig, Version
from otel_control_gym.stands.twin.api import STRATEGIC_MERGE_PATCH, Api
from otel_control_gym.stands.twin.objects import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    NETWORK_CHAOS,
    POD,
    POD_CHAOS,
    SERVICE,
    Kind,
    Object,
)
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.state import ATTEMPTED, ERROR, LOST, OK, REFUSED, TIMED_OUT

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig

NAMESPACE = "otel-demo"
IMAGE = "ghcr.io/open-telemetry/demo"


def live(run: TwinRun, seconds: float) -> None:
    until = run.now + round(seconds * SECOND)
    while run.advance_once(until):
        pass


def api(run: TwinRun) -> Api:
    return Api(run.control_plane.context)


def create(run: TwinRun, kind: Kind, name: str, spec: Object) -> None:
    api(run).create(kind, NAMESPACE, {"metadata": {"name": name}, "spec": spec})


def selector(service: str) -> Object:
    return {"labelSelectors": {"app.kubernetes.io/component": service}}


def changed(config: RunConfig, *, services: dict[str, Any] | None = None, timeout_ms: float = 0.0) -> RunConfig:
    """Return a configuration with other fields of some services, and a time-out of every call."""
    own = config.public.services
    replaced = {
        name: msgspec.structs.replace(item, **(services or {}).get(name, {})) for name, item in own.services.items()
    }
    edges = (
        tuple(msgspec.structs.replace(edge, timeout_ms=timeout_ms) for edge in own.edges) if timeout_ms else own.edges
    )
    application = msgspec.structs.replace(own, services=replaced, edges=edges)
    return msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, services=application))


def counts(run: TwinRun, source: str, target: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the attempts of an edge so far, by how they ended."""
    edges = [(edge.source, edge.target) for edge in run.config.public.services.edges]
    return np.array(run.simulation.edge_counts[edges.index((source, target))])


def test_a_partition_times_out_and_never_refuses(make_config: MakeConfig) -> None:
    run = TwinRun(changed(make_config(60), timeout_ms=800))
    live(run, 20)
    spec = {"action": "partition", "mode": "all", "direction": "both", "selector": selector("frontend")}
    spec |= {"target": {"mode": "all", "selector": selector("cart")}, "duration": "30s"}
    create(run, NETWORK_CHAOS, "cut", spec)
    live(run, 2)
    before = counts(run, "frontend", "cart")
    live(run, 26)
    during = counts(run, "frontend", "cart") - before
    assert during[TIMED_OUT] > 20
    assert during[OK] == during[REFUSED] == during[LOST] == 0
    assert counts(run, "checkout", "cart")[TIMED_OUT] == 0, "the other clients of the cart are not cut off"
    live(run, 30)
    before = counts(run, "frontend", "cart")
    live(run, 20)
    after = counts(run, "frontend", "cart") - before
    assert after[OK] > 0.9 * after[ATTEMPTED]


def test_an_outage_without_a_target_takes_the_pod_out_of_the_endpoints(make_config: MakeConfig) -> None:
    run = TwinRun(changed(make_config(60), timeout_ms=800))
    live(run, 20)
    spec = {"action": "partition", "mode": "all", "direction": "both", "selector": selector("cart"), "duration": "40s"}
    create(run, NETWORK_CHAOS, "outage", spec)
    live(run, 15)
    assert [view.ready for view in run.control_plane.pods() if view.service == "cart"] == [False]
    live(run, 60)
    assert [view.ready for view in run.control_plane.pods() if view.service == "cart"] == [True]
    before = counts(run, "frontend", "cart")
    live(run, 20)
    after = counts(run, "frontend", "cart") - before
    assert after[OK] > 0.9 * after[ATTEMPTED] > 0


def test_a_delay_towards_a_cluster_ip_changes_nothing_though_it_says_injected(make_config: MakeConfig) -> None:
    def seconds_per_call(direction: str | None) -> float:
        run = TwinRun(make_config(60))
        live(run, 10)
        if direction:
            spec = {"action": "delay", "mode": "all", "direction": direction, "selector": selector("frontend")}
            spec |= {"target": {"mode": "all", "selector": selector("cart")}, "delay": {"latency": "100ms"}}
            create(run, NETWORK_CHAOS, "slow", spec)
            live(run, 30)
            conditions = api(run).get(NETWORK_CHAOS, NAMESPACE, "slow")["status"]["conditions"]
            assert ("AllInjected", "True") in [(item["type"], item["status"]) for item in conditions]
        else:
            live(run, 30)
        edges = [(edge.source, edge.target) for edge in run.config.public.services.edges]
        row = edges.index(("frontend", "cart"))
        return float(run.simulation.edge_seconds[row].sum() / run.simulation.edge_counts[row, OK])

    assert seconds_per_call("to") == seconds_per_call(None)
    assert seconds_per_call("from") > seconds_per_call(None) + 0.05


def test_a_killed_container_loses_what_it_held_and_serves_again(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(150))
    live(run, 20)
    spec = {"action": "container-kill", "mode": "all", "selector": selector("frontend"), "containerNames": ["frontend"]}
    create(run, POD_CHAOS, "kill", spec)
    live(run, 2)
    assert counts(run, "load-generator", "frontend")[LOST] > 0
    live(run, 20)
    (view,) = [item for item in run.control_plane.pods() if item.service == "frontend"]
    assert (view.restarts, view.ready) == (1, True)
    before = counts(run, "load-generator", "frontend")
    live(run, 20)
    after = counts(run, "load-generator", "frontend") - before
    assert after[OK] > 0.9 * after[ATTEMPTED] > 0


def test_a_store_that_fails_for_a_while_fails_its_callers_for_that_while(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(100))
    live(run, 20)
    spec = {"action": "pod-failure", "mode": "all", "selector": selector("valkey-cart"), "duration": "60s"}
    create(run, POD_CHAOS, "outage", spec)
    live(run, 40)
    before = counts(run, "cart", "valkey-cart")
    live(run, 10)
    during = counts(run, "cart", "valkey-cart") - before
    assert during[OK] == 0
    assert during[REFUSED] + during[LOST] == during[ATTEMPTED] > 0
    live(run, 60)
    before = counts(run, "cart", "valkey-cart")
    live(run, 20)
    after = counts(run, "cart", "valkey-cart") - before
    assert after[OK] > 0.95 * after[ATTEMPTED] > 0


def test_a_build_that_never_gets_ready_changes_nothing_for_the_users(make_config: MakeConfig) -> None:
    config = changed(make_config(60), services={"frontend": {"versions": {"2.3.0": Version(gets_ready=False)}}})

    def outcome(image: str | None) -> np.ndarray[Any, np.dtype[np.int64]]:
        run = TwinRun(config)
        live(run, 20)
        if image:
            container = {"name": "frontend", "image": image}
            body = {"spec": {"template": {"spec": {"containers": [container]}}}}
            api(run).patch(DEPLOYMENT, NAMESPACE, "frontend", body, STRATEGIC_MERGE_PATCH)
        live(run, 60)
        assert len(api(run).get(DEPLOYMENT, NAMESPACE, "frontend")["metadata"]["annotations"]) == 1
        return counts(run, "load-generator", "frontend")

    untouched = outcome(None)
    assert untouched[OK] > 300
    assert (outcome(f"{IMAGE}:2.3.0-frontend") == untouched).all()
    assert (outcome(f"{IMAGE}:0.0.0-frontend") == untouched).all()


def test_a_canary_s_faults_reach_the_share_of_the_traffic_that_the_route_gives_it(make_config: MakeConfig) -> None:
    buggy = Version(failure_ratio=1.0)
    run = TwinRun(changed(make_config(100), services={"frontend": {"versions": {"2.3.0": buggy}}}))
    own = api(run).get(DEPLOYMENT, NAMESPACE, "frontend")["spec"]
    stable = {"opentelemetry.io/name": "frontend", "pod-template-hash": ""}
    (pod,) = [
        item
        for item in run.control_plane.store.objects(POD)
        if item["metadata"]["labels"]["opentelemetry.io/name"] == "frontend"
    ]
    stable["pod-template-hash"] = pod["metadata"]["labels"]["pod-template-hash"]
    canary = {"opentelemetry.io/name": "frontend", "track": "canary"}
    (container,) = own["template"]["spec"]["containers"]
    template = {
        "metadata": {"labels": own["template"]["metadata"]["labels"] | canary},
        "spec": own["template"]["spec"] | {"containers": [container | {"image": f"{IMAGE}:2.3.0-frontend"}]},
    }
    ports = [{"port": 8080}]
    create(run, SERVICE, "frontend-stable", {"selector": stable, "ports": ports})
    create(run, SERVICE, "frontend-canary", {"selector": canary, "ports": ports})
    backends = [
        {"name": "frontend-stable", "port": 8080, "weight": 80},
        {"name": "frontend-canary", "port": 8080, "weight": 20},
    ]
    parent = {"group": "", "kind": "Service", "name": "frontend"}
    create(run, DEPLOYMENT, "frontend-canary", {"selector": {"matchLabels": canary}, "template": template})
    live(run, 30)
    create(run, HTTP_ROUTE, "canary", {"parentRefs": [parent], "rules": [{"backendRefs": backends}]})
    live(run, 5)
    before = counts(run, "load-generator", "frontend")
    live(run, 60)
    after = counts(run, "load-generator", "frontend") - before
    share = after[ERROR] / after[ATTEMPTED]
    assert share == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / after[ATTEMPTED]) ** 0.5)
    deployments = {
        labels["k8s_deployment_name"]
        for labels in run.telemetry.series.labels.values()
        if labels["__name__"] == "k8s_pod_cpu_usage" and labels["service_name"] == "frontend"
    }
    assert deployments == {"frontend", "frontend-canary"}


def test_an_autoscaler_follows_a_saturated_service_and_shows_in_the_series(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(300))
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 90}}
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "frontend"}
    spec = {"scaleTargetRef": reference, "maxReplicas": 4, "metrics": [{"type": "Resource", "resource": cpu}]}
    create(run, HORIZONTAL_POD_AUTOSCALER, "frontend", spec)
    live(run, 90)
    item = api(run).get(HORIZONTAL_POD_AUTOSCALER, NAMESPACE, "frontend")
    assert item["status"]["desiredReplicas"] > 1, "one pod can use twice its request: 0.5 of 1.0 cores"
    shown = {
        labels["__name__"]: labels
        for labels in run.telemetry.series.labels.values()
        if labels["__name__"].startswith("k8s_hpa_")
    }
    sizes = ("current", "desired", "min", "max")
    assert sorted(shown) == sorted(f"k8s_hpa_{name}_replicas" for name in sizes)
    assert shown["k8s_hpa_max_replicas"]["k8s_hpa_name"] == "frontend"
