"""Watches: everything up to a barrier is there, in order, once; what a policy mustn't see goes to the truth stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from otel_control_gym.collectors import KubernetesCollector
from otel_control_gym.collectors.kubernetes_rows import EventObject, Metadata, is_truth
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import (
    ActionRequested,
    AutoscalersObserved,
    BulkEvent,
    KubernetesEventsObserved,
    PodsTransitioned,
    RolloutsObserved,
    RoutesObserved,
)
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer

if TYPE_CHECKING:
    from otel_control_gym.stands.twin.control_plane import ControlPlane

MERGE = {"Content-Type": "application/merge-patch+json"}
DEPLOYMENTS = "/apis/apps/v1/namespaces/otel-demo/deployments"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/otel-demo/horizontalpodautoscalers"
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/otel-demo/httproutes"
POD_CHAOS = "/apis/chaos-mesh.org/v1alpha1/namespaces/otel-demo/podchaos"
STRESS = "/apis/chaos-mesh.org/v1alpha1/namespaces/otel-demo/stresschaos"


class Watched:
    """A cluster that is being watched."""

    def __init__(self, plane: ControlPlane, url: str, collector: KubernetesCollector) -> None:
        self.plane, self.url, self.collector = plane, url, collector

    async def live(self, seconds: int, *, exact: bool = True) -> dict[tuple[type, bool], Any]:
        """Let time pass, drain, flush; return rows by event type and stream."""
        now = self.plane.now + seconds * SECOND
        self.plane.run_due(now)
        self.plane.bookmark()
        await self.collector.drain(Barrier(time=now, resource_version=self.plane.resource_version, exact=exact))
        return {(type(event), truth): getattr(event, "rows", event) for event, truth in self.collector.flush(now)}

    async def call(self, method: str, path: str, body: Any, **headers: str) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, json=body, headers=headers) as answer,
        ):
            assert answer.status < 300, await answer.text()

    async def scale(self, name: str, replicas: int) -> None:
        await self.call("PATCH", f"{DEPLOYMENTS}/{name}/scale", {"spec": {"replicas": replicas}}, **MERGE)


def endpoints_at(url: str) -> Endpoints:
    return Endpoints(kubernetes=url, namespace="otel-demo", prometheus=url, coroot=url, load_generator=url, flagd=url)


@asynccontextmanager
async def watching(plane: ControlPlane) -> AsyncIterator[Watched]:
    async with KubernetesServer(plane).open() as url:
        collector = KubernetesCollector(endpoints_at(url), now=plane.now)
        async with collector.open():
            yield Watched(plane, url, collector)


async def test_the_first_drain_tells_what_exists(plane: ControlPlane) -> None:
    async with watching(plane) as watched:
        start = watched.plane.now
        found = await watched.live(0)
        deployments = {row.name: row for row in found[RolloutsObserved, False] if row.kind == "Deployment"}
        assert sorted(deployments) == ["cart", "frontend"]
        assert (deployments["cart"].replicas_desired, deployments["cart"].replicas_available) == (2, 2)
        assert deployments["cart"].cpu_limit_cores == 0.5
        assert deployments["cart"].memory_limit_bytes == 2**27
        pods = found[PodsTransitioned, False]
        assert {(row.service, row.phase, row.ready) for row in pods} == {
            ("cart", "Running", True),
            ("frontend", "Running", True),
        }
        assert {row.time for row in (*pods, *found[RolloutsObserved, False])} == {start}
        assert (KubernetesEventsObserved, False) not in found


def deleted_by_hand(flushed: list[dict[tuple[type, bool], Any]]) -> list[str]:
    deeds = [found[ActionRequested, False] for found in flushed if (ActionRequested, False) in found]
    return [deed.parameters["object"] for deed in deeds if deed.parameters["operation"] == "deleted"]


async def test_where_no_barrier_is_exact_a_scale_down_is_nobody_s_deed_and_a_deletion_by_hand_is_one(
    plane: ControlPlane,
) -> None:
    """Who deleted a pod is judged a barrier later there, when the Events that came with it are flushed already."""
    async with watching(plane) as watched:
        await watched.live(0, exact=False)
        await watched.scale("cart", 1)
        found = [await watched.live(10, exact=False) for _ in range(3)]
        assert any(row.reason == "SuccessfulDelete" for row in found[0][KubernetesEventsObserved, False])
        assert deleted_by_hand(found) == []
        left = next(pod.name for pod in watched.plane.pods() if pod.service == "frontend")
        await watched.call("DELETE", f"/api/v1/namespaces/otel-demo/pods/{left}", None)
        found = [await watched.live(10, exact=False) for _ in range(3)]
        assert deleted_by_hand(found) == [f"Pod/{left}"]


async def test_a_scale_up_is_told_from_desire_to_readiness(plane: ControlPlane) -> None:
    async with watching(plane) as watched:
        await watched.live(0)
        start = watched.plane.now
        await watched.scale("cart", 3)
        found = await watched.live(30)
        rollouts = [row for row in found[RolloutsObserved, False] if row.kind == "Deployment"]
        assert (rollouts[0].replicas_desired, rollouts[0].replicas_available) == (3, 2)
        assert (rollouts[-1].replicas_available, rollouts[-1].observed_generation) == (3, rollouts[-1].generation)
        pods = found[PodsTransitioned, False]
        assert [row.change for row in pods] == ["added"] + ["modified"] * (len(pods) - 1)
        assert [row.ready for row in pods][-1]
        assert len({row.uid for row in pods}) == 1
        reasons = [row.reason for row in found[KubernetesEventsObserved, False]]
        assert reasons[:2] == ["ScalingReplicaSet", "SuccessfulCreate"]
        for (kind, _), rows in found.items():
            if not issubclass(kind, BulkEvent):
                continue  # the scaling itself, which was nobody's whom the gym knows
            times = [row.time for row in rows]
            assert times == sorted(times)
            assert start <= times[0] <= times[-1] < start + 10 * SECOND


async def test_a_second_version_belongs_to_the_service_that_its_pods_are_labelled_with(plane: ControlPlane) -> None:
    async with watching(plane) as watched:
        await watched.live(0)
        labels = {"opentelemetry.io/name": "cart", "track": "canary"}
        containers = [{"name": "cart", "image": "ghcr.io/open-telemetry/demo:2.2.0-cart"}]
        spec = {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        }
        kind = {"apiVersion": "apps/v1", "kind": "Deployment"}
        await watched.call("POST", DEPLOYMENTS, {**kind, "metadata": {"name": "cart-canary"}, "spec": spec})
        rows = [row for row in (await watched.live(30))[RolloutsObserved, False] if row.name == "cart-canary"]
    assert {(row.service, row.images) for row in rows} == {("cart", (containers[0]["image"],))}


async def test_nothing_is_told_twice(plane: ControlPlane) -> None:
    async with watching(plane) as watched:
        await watched.live(0)
        await watched.scale("cart", 1)
        assert await watched.live(60)
        assert await watched.live(30) == {}


async def test_pods_that_go_are_terminating_then_deleted(plane: ControlPlane) -> None:
    async with watching(plane) as watched:
        await watched.live(0)
        await watched.scale("cart", 1)
        pods = (await watched.live(60))[PodsTransitioned, False]
        assert (pods[0].terminating, pods[-1].change) == (True, "deleted")


async def test_events_of_chaos_objects_are_truth(plane: ControlPlane) -> None:
    async with watching(plane) as watched:
        await watched.live(0)
        spec = {"mode": "all", "selector": {"labelSelectors": {"opentelemetry.io/name": "cart"}}, "duration": "20s"}
        spec |= {"stressors": {"cpu": {"workers": 1, "load": 100}}}
        kind = {"apiVersion": "chaos-mesh.org/v1alpha1", "kind": "StressChaos"}
        await watched.call("POST", STRESS, {**kind, "metadata": {"name": "x"}, "spec": spec})
        found = await watched.live(60)
        assert "Applied" in [row.reason for row in found[KubernetesEventsObserved, True]]
        assert (KubernetesEventsObserved, False) not in found


async def test_a_write_that_shows_in_no_row_is_not_told_and_what_a_kubelet_says_of_it_is_truth(
    plane: ControlPlane,
) -> None:
    async with watching(plane) as watched:
        await watched.live(0)
        selector = {"labelSelectors": {"opentelemetry.io/name": "cart"}}
        spec = {"action": "pod-failure", "mode": "all", "duration": "20s", "selector": selector}
        kind = {"apiVersion": "chaos-mesh.org/v1alpha1", "kind": "PodChaos"}
        await watched.call("POST", POD_CHAOS, {**kind, "metadata": {"name": "x"}, "spec": spec})
        found = await watched.live(60)  # another image in every pod, and back; these machines' containers don't stop
    assert any("definition changed" in row.message for row in found[KubernetesEventsObserved, True])
    assert [rows for (_, truth), rows in found.items() if not truth] == []


@pytest.mark.parametrize(
    ("message", "truth"),
    [
        ('Container image "registry.k8s.io/pause:3.10" already present on machine', True),
        ('Pulling image "gcr.io/google-containers/pause@sha256:ab"', True),
        ("Container cart definition changed, will be restarted", True),
        ('Container image "shop/pause-menu:1.0" already present on machine', False),
        ('Container image "ghcr.io/open-telemetry/demo:2.2.0-cart" already present on machine', False),
        ("Stopping container cart", False),
    ],
)
def test_what_a_kubelet_says_of_a_pause_image_is_truth(message: str, truth: bool) -> None:
    metadata = Metadata(name="cart.1", uid="1", resource_version="1")
    assert is_truth(EventObject(metadata=metadata, message=message)) is truth


async def test_secrets_of_an_object_never_get_as_far_as_the_log_nor_what_a_daemon_noted_on_it_into_the_open(
    plane: ControlPlane,
) -> None:
    async with watching(plane) as watched:
        await watched.live(0)
        environment = [{"name": "DB_CONNECTION_STRING", "value": "planted-secret"}]
        template = {"spec": {"containers": [{"name": "cart", "env": environment}]}}
        notes = {"kubectl.kubernetes.io/last-applied-configuration": "planted-secret"}
        strategic = {"Content-Type": "application/strategic-merge-patch+json"}
        body: dict[str, Any] = {"metadata": {"annotations": notes}, "spec": {"template": template}}
        await watched.call("PATCH", f"{DEPLOYMENTS}/cart", body, **strategic)
        found = await watched.live(60)
        assert "planted-secret" not in repr(found)
        assert found[ActionRequested, False].parameters["operation"] == "changed", "somebody did change it"
        body = {"metadata": {"annotations": {"chaos-mesh-x-pod-failure-cart-normal-image": "planted"}}}
        await watched.call("PATCH", f"{DEPLOYMENTS}/cart", body, **strategic)
        found = await watched.live(60)
    assert "planted" not in repr(found)
    assert [kind for kind, truth in found if not truth and not issubclass(kind, BulkEvent)] == []


async def test_an_autoscaler_is_told_with_its_bounds_and_decisions_and_not_with_every_look(plane: ControlPlane) -> None:
    async with watching(plane) as watched:
        await watched.live(0)
        aim = {"type": "Utilization", "averageUtilization": 60}
        spec = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"},
            "minReplicas": 3,
            "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": aim}}],
        }
        kind = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
        await watched.call("POST", AUTOSCALERS, {**kind, "metadata": {"name": "cart"}, "spec": spec})
        rows = (await watched.live(60))[AutoscalersObserved, False]
        first, last = rows[0], rows[-1]
        assert (first.change, first.deployment) == ("added", "cart")
        assert (first.replicas_min, first.replicas_max, first.cpu_utilization_percent) == (3, 5, 60)
        assert (last.replicas_wanted, last.replicas_current) == (3, 3)
        await watched.live(60)  # the mean of no CPU at all is known by now
        assert (AutoscalersObserved, False) not in await watched.live(120)
        await watched.call("DELETE", f"{AUTOSCALERS}/cart", None)
        assert [row.change for row in (await watched.live(5))[AutoscalersObserved, False]] == ["deleted"]


async def test_a_route_is_told_with_the_shares_of_its_backends(plane: ControlPlane) -> None:
    async with watching(plane) as watched:
        await watched.live(0)
        backends = [{"name": "cart", "port": 8080, "weight": 3}, {"name": "cart-canary", "port": 8080, "weight": 1}]
        spec = {
            "parentRefs": [{"group": "", "kind": "Service", "name": "cart", "port": 8080}],
            "rules": [{"backendRefs": backends}],
        }
        kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
        await watched.call("POST", ROUTES, {**kind, "metadata": {"name": "split"}, "spec": spec})
        (row,) = (await watched.live(10))[RoutesObserved, False]
        assert (row.change, row.parent, row.weights) == ("added", "cart", {"cart": 0.75, "cart-canary": 0.25})


async def test_two_watchers_of_one_cluster_tell_the_same(plane: ControlPlane) -> None:
    async with watching(plane) as first, watching(plane) as second:
        await first.scale("cart", 4)
        plane.run_due(plane.now + 40 * SECOND)
        assert await first.live(0) == await second.live(0)


async def test_an_api_that_is_not_there_is_a_lost_stand(plane: ControlPlane) -> None:
    async with KubernetesServer(plane).open() as url:
        pass
    with pytest.raises(StandError, match="can't be listed"):
        async with KubernetesCollector(endpoints_at(url), now=plane.now).open():
            pass
