"""A restart of the stand's own collector is a gap of what goes through it, however quickly another one serves; others' restarts aren't."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import aiohttp
import msgspec

from otel_control_gym.collectors import KubernetesCollector
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import CollectorGap
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.settings import Service, ServiceConfiguration, TwinSettings
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer
from tests.collectors.conftest import START, IdleMachines

NAMESPACE = "/apis/apps/v1/namespaces/otel-demo"
MERGE = {"Content-Type": "application/merge-patch+json"}


class Stand:
    """A namespace with a collector, and who watches it."""

    def __init__(self, plane: ControlPlane, url: str, watcher: KubernetesCollector) -> None:
        self._plane, self._url, self._watcher = plane, url, watcher

    async def live(self, seconds: int) -> list[CollectorGap]:
        """Let time pass; return the gaps that are told then."""
        now = self._plane.now + seconds * SECOND
        self._plane.run_due(now)
        self._plane.bookmark()
        await self._watcher.drain(Barrier(time=now, resource_version=self._plane.resource_version, exact=True))
        return [event for event, _ in self._watcher.flush(now) if isinstance(event, CollectorGap)]

    async def patch(self, path: str, body: object) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.patch(f"{self._url}{NAMESPACE}/{path}", json=body, headers=MERGE) as answer,
        ):
            assert answer.status < 300, await answer.text()

    async def scale(self, name: str, replicas: int) -> None:
        await self.patch(f"deployments/{name}/scale", {"spec": {"replicas": replicas}})

    async def restart(self, name: str) -> None:
        """As `kubectl rollout restart` does: another pod is ready before this one goes."""
        template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": str(self._plane.now)}}}
        await self.patch(f"deployments/{name}", {"spec": {"template": template}})


@asynccontextmanager
async def watched(services: ServiceConfiguration) -> AsyncIterator[Stand]:
    collector = Service(protocol="grpc", cpu_limit_cores=0.5, memory_limit_bytes=2**27)
    with_one = msgspec.structs.replace(services, services={**services.services, "otel-collector": collector})
    plane = ControlPlane(with_one, TwinSettings(), seed=7, start=START, runtime=IdleMachines())
    plane.install()
    async with KubernetesServer(plane).open() as url:
        places = Endpoints(
            kubernetes=url, namespace="otel-demo", prometheus=url, coroot=url, load_generator=url, flagd=url
        )
        watcher = KubernetesCollector(places, now=plane.now)
        async with watcher.open():
            found = Stand(plane, url, watcher)
            assert await found.live(0) == []
            yield found


async def test_a_collector_that_is_replaced_while_it_serves_is_a_gap_of_all_that_goes_through_it(
    services: ServiceConfiguration,
) -> None:
    async with watched(services) as stand:
        assert await stand.live(20) == []
        await stand.restart("otel-collector")
        gaps = await stand.live(60)
        assert [gap.source for gap in gaps] == ["metrics", "spans", "logs"]
        assert {gap.start for gap in gaps} == {START + 20 * SECOND}, (
            "what it had since it was looked at last is lost with it"
        )
        assert START + 20 * SECOND < gaps[0].end <= START + 80 * SECOND
        assert await stand.live(30) == []


async def test_a_collector_that_is_away_is_a_gap_until_one_serves_again(services: ServiceConfiguration) -> None:
    async with watched(services) as stand:
        await stand.scale("otel-collector", 0)
        away = [gap for gap in await stand.live(10) + await stand.live(10) if gap.source == "spans"]
        await stand.scale("otel-collector", 1)
        (back,) = [gap for gap in await stand.live(60) if gap.source == "spans"]
        assert all(earlier.end == later.start for earlier, later in pairwise([*away, back]))
        assert away[0].start == START
        assert START + 20 * SECOND < back.end < START + 80 * SECOND


async def test_what_others_do_is_no_gap(services: ServiceConfiguration) -> None:
    async with watched(services) as stand:
        await stand.restart("frontend")
        await stand.scale("cart", 1)
        assert await stand.live(60) == []
