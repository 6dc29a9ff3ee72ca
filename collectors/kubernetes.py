"""Kubernetes ➜ pod transitions, rollouts, autoscalers, routes, Events.

In: lists and watches of pods, Deployments, ReplicaSets, HorizontalPodAutoscalers, HTTPRoutes and Events. Out: rows in the order in which
the API server wrote them.

What makes this hard:
- **Draining exactly.** A barrier names a resourceVersion; each watch has to have seen it, by a change or a bookmark. Where that can't
  be (a cluster gives bookmarks once a minute, a server may be gone), the wait is bounded, and the rest is a gap.
- **Times.** Watches carry none. An object shows when it changed last, in whole seconds, or not at all. All four watches share one sequence
  of versions, so a row's time is the newest that was shown up to its version, within the barriers before and after it.
- **Truth.** Events about chaos objects, and what a kubelet says of the images that they put into pods, tell what is injected and when: they
  go to the truth stream.
- **The collector's collector.** A restart of the stand's OpenTelemetry collector loses what other sources give: `collector_restarts`.
- **Foreign hands.** Whoever changes the stand behind the gym's back acts on it: `external` makes actions of it, public ones, or (of a chaos
  object) of the truth stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import aiohttp
import anyio
import msgspec

from otel_control_gym.collectors.collector_restarts import CollectorRestarts
from otel_control_gym.collectors.external import (
    Deeds,
    Foreign,
    deleted_object,
    deleted_pod,
    foreign_change,
    told_of_deletion,
)
from otel_control_gym.collectors.gaps import Gaps
from otel_control_gym.collectors.kubernetes_client import KubernetesReader, open_kubernetes
from otel_control_gym.collectors.kubernetes_controls import (
    AutoscalerObject,
    RouteObject,
    autoscaler_row,
    route_row,
)
from otel_control_gym.collectors.kubernetes_rows import (
    ChaosObject,
    EventObject,
    ManagedObject,
    PodObject,
    WorkloadObject,
    event_row,
    is_truth,
    pod_row,
    rollout_row,
)
from otel_control_gym.collectors.watch import Delivery, Watch
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import (
    AutoscalersObserved,
    AutoscalerStatus,
    Event,
    KubernetesEvent,
    KubernetesEventsObserved,
    PodsTransitioned,
    PodTransition,
    RolloutsObserved,
    RolloutStatus,
    RoutesObserved,
    RouteStatus,
)
from otel_control_gym.engine.protocols import Barrier, Endpoints

__all__ = ("WATCHED", "KubernetesCollector")

LAG_SECONDS = 0.5  #: wall time without progress after which an inexact barrier is caught up with by lists: its stand has waited already
PATIENCE_SECONDS = 30.0  #: the same for an exact barrier: bookmarks come at once, unless a connection broke
_KINDS: tuple[tuple[str, str, type[Any]], ...] = (
    ("Deployment", "apis/apps/v1/namespaces/{}/deployments", WorkloadObject),
    ("ReplicaSet", "apis/apps/v1/namespaces/{}/replicasets", WorkloadObject),
    ("Pod", "api/v1/namespaces/{}/pods", PodObject),
    ("Event", "api/v1/namespaces/{}/events", EventObject),
)
#: a cluster may lack some of these APIs; what is a mere `ManagedObject` is watched for who changes it alone
_OTHERS: tuple[tuple[str, str, type[Any]], ...] = (
    ("Service", "api/v1/namespaces/{}/services", ManagedObject),
    ("HorizontalPodAutoscaler", "apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers", AutoscalerObject),
    ("HTTPRoute", "apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes", RouteObject),
    ("NetworkChaos", "apis/chaos-mesh.org/v1alpha1/namespaces/{}/networkchaos", ManagedObject),
    ("PodChaos", "apis/chaos-mesh.org/v1alpha1/namespaces/{}/podchaos", ChaosObject),
    ("StressChaos", "apis/chaos-mesh.org/v1alpha1/namespaces/{}/stresschaos", ManagedObject),
)
WATCHED = tuple(
    path for _, path, _ in (*_KINDS, *_OTHERS)
)  #: collections that are listed and watched, `{}` for the namespace
_NOT_FOUND = 404
_CHAOS_MARKS = ("chaos-mesh", "-normal-image")  #: of annotations that chaos daemons leave
_Row: TypeAlias = PodTransition | RolloutStatus | AutoscalerStatus | RouteStatus
RowT = TypeVar("RowT", PodTransition, RolloutStatus, AutoscalerStatus, RouteStatus)


class KubernetesCollector:
    """Watches a namespace; `now` is the run's first moment: Events from before aren't the run's."""

    source = "kubernetes"

    def __init__(self, endpoints: Endpoints, *, now: int) -> None:
        self._endpoints = endpoints
        self._start = now
        self._gaps = Gaps(self.source, now)
        self._newest = now  # newest time shown by an object so far
        self._whole_until = now
        self._watches: dict[str, Watch[Any]] = {}
        self._progress = anyio.Event()
        self._pods: list[PodTransition] = []
        self._restarts = CollectorRestarts()
        self._rollouts: list[RolloutStatus] = []
        self._autoscalers: list[AutoscalerStatus] = []
        self._routes: list[RouteStatus] = []
        self._told: dict[str, _Row] = {}  # UID -> the object's row as it was told last
        self._events: dict[bool, list[KubernetesEvent]] = {False: [], True: []}
        self._seen: dict[str, Any] = {}  # UID -> the object as it was delivered last
        self._deeds = Deeds()
        self._external: list[tuple[Event, bool]] = []
        self._ending: list[tuple[Delivery[Any], Any, int]] = []  # pods that began to end: delivery, before, time
        self._told_deleted: tuple[str, ...] = ()  # by their ReplicaSet, while `_ending` waits

    def open(self) -> AbstractAsyncContextManager[None]:
        """List everything, then watch.

        Raises: StandError: the API server can't be reached.
        """
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with open_kubernetes(self._endpoints) as kubernetes:
            for name, pattern, kind in _KINDS:
                path = pattern.format(self._endpoints.namespace)
                watch = self._watches[name] = Watch(kubernetes, path, kind, self._announce)
                try:
                    await watch.list(initial=True)
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    url = f"{self._endpoints.kubernetes}/{path}"
                    raise StandError(f"the Kubernetes API can't be listed at {url}: {error}") from error
            await self._watch_others(kubernetes)
            async with anyio.create_task_group() as tasks:
                for watch in self._watches.values():
                    await tasks.start(watch.follow)
                yield
                tasks.cancel_scope.cancel()

    async def _watch_others(self, kubernetes: KubernetesReader) -> None:
        """List what a cluster needn't have; an API that is missing is left out."""
        for name, pattern, kind in _OTHERS:
            watch = Watch(kubernetes, pattern.format(self._endpoints.namespace), kind, self._announce)
            try:
                await watch.list(initial=True)
            except aiohttp.ClientResponseError as error:
                if error.status != _NOT_FOUND:
                    raise StandError(f"the Kubernetes API's {name} can't be listed: {error}") from error
                continue
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise StandError(f"the Kubernetes API's {name} can't be listed: {error}") from error
            self._watches[name] = watch

    def _announce(self) -> None:
        self._progress.set()
        self._progress = anyio.Event()

    async def drain(self, barrier: Barrier) -> None:
        """Wait until each watch has seen the barrier's resourceVersion, or can't."""
        wanted = int(barrier.resource_version) if barrier.resource_version else 0
        patience = PATIENCE_SECONDS if barrier.exact else LAG_SECONDS
        while self._behind(wanted):
            with anyio.move_on_after(patience) as waited:
                await self._progress.wait()
            if waited.cancelled_caught:
                await self._catch_up(wanted)
                break
        self._take(barrier)
        reasons = [f"{name}: {gap}" for name, watch in self._watches.items() for gap in watch.gaps]
        reasons += [f"{name}: {watch.broken}" for name, watch in self._watches.items() if watch.broken]
        for watch in self._watches.values():
            watch.gaps = []
        self._gaps.read_up_to(barrier.time, *reasons)
        if not reasons:
            self._whole_until = barrier.time

    async def _catch_up(self, wanted: int) -> None:
        """List where a watch has fallen silent; what happened in between is then one change per object."""
        for watch in self._watches.values():
            if watch.version < wanted and not watch.broken:
                try:
                    await watch.list(initial=False)
                except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
                    watch.gaps.append(f"watch silent, and not to be listed ({type(error).__name__})")

    def _behind(self, wanted: int) -> bool:
        return any(watch.version < wanted and not watch.broken for watch in self._watches.values())

    def _take(self, barrier: Barrier) -> None:
        """Give every change since the last barrier its time, and make rows."""
        found: list[tuple[int, int, str, Delivery[Any]]] = []
        for number, (name, watch) in enumerate(self._watches.items()):
            found += [(delivery.version, number, name, delivery) for delivery in watch.deliveries]
            watch.deliveries = []
        for _, _, name, delivery in sorted(found, key=lambda item: item[:2]):
            shown = delivery.object.moment()
            if shown > self._newest:
                self._newest = min(shown, barrier.time)
            time = max(self._newest, self._gaps.since)
            self._row(name, delivery, time)
            self._notice(name, delivery, time)
        self._notice_deletions(barrier)

    def _row(self, name: str, delivery: Delivery[Any], time: int) -> None:
        found, change = delivery.object, delivery.change
        if name == "Pod":
            row = pod_row(found, change, time)
            self._add(self._pods, row)
            self._restarts.see(row, initial=delivery.initial, since=self._gaps.since)
        elif name == "Event":
            if change != "deleted" and not (delivery.initial and found.moment() < self._start):
                self._events[is_truth(found)].append(event_row(found, time))
        elif name == "Deployment":
            self._add(self._rollouts, rollout_row(found, "Deployment", change, time))
        elif name == "ReplicaSet":
            self._add(self._rollouts, rollout_row(found, "ReplicaSet", change, time))
        elif name == "HorizontalPodAutoscaler":
            self._add(self._autoscalers, autoscaler_row(found, change, time))
        elif name == "HTTPRoute":
            self._add(self._routes, route_row(found, change, time))

    def _add(self, rows: list[RowT], row: RowT) -> None:
        """Add a row that tells something: a write that shows in none of its fields (a pod's image, a note) would tell of its moment."""
        before = self._told.get(row.uid)
        news = before is None or msgspec.structs.replace(before, time=row.time, change=row.change) != row
        if news or row.change == "deleted":
            rows.append(row)
        self._told[row.uid] = row

    def _notice(self, name: str, delivery: Delivery[Any], time: int) -> None:
        """Make an action of a change by a foreign hand."""
        found, metadata = delivery.object, delivery.object.metadata
        if name == "Event":
            return
        before = self._seen.get(metadata.uid)
        if delivery.change == "deleted":
            self._seen.pop(metadata.uid, None)
        else:
            self._seen[metadata.uid] = found
        if isinstance(found, ChaosObject):
            self._deeds.see(found)
        if delivery.initial or name == "ReplicaSet":
            return
        if name == "Pod":
            self._ending.append((delivery, before, time))
        else:
            foreign = deleted_object(before, found, delivery.change)
            ends = delivery.change == "deleted" or metadata.deletion_timestamp is not None
            if not ends:
                foreign = foreign_change(before, found, delivery.change, counted=not name.endswith("Chaos"))
            if foreign is not None:
                self._tell(foreign, name, delivery, time)

    def _notice_deletions(self, barrier: Barrier) -> None:
        """Make actions of pods that were deleted by hand, once the Events of the same time are in: on a cluster that may take a barrier."""
        told = (*self._told_deleted, *told_of_deletion(self._events[False]))
        waiting = []
        for delivery, before, time in self._ending:
            if not barrier.exact and time >= self._gaps.since:
                waiting.append((delivery, before, time))
                continue
            if self._deeds.killed(delivery.object.metadata.name):
                self._external += [(event, True) for event in self._deeds.victim(delivery.object, time)]
                continue
            owned = delivery.object.metadata.owner_uid in self._seen  # else its whole ReplicaSet went
            foreign = deleted_pod(before, delivery.object, delivery.change, told) if owned else None
            if foreign is not None:
                self._tell(foreign, "Pod", delivery, time)
        self._ending, self._told_deleted = waiting, told if waiting else ()

    def _tell(self, foreign: Foreign, kind: str, delivery: Delivery[Any], time: int) -> None:
        metadata = delivery.object.metadata
        events = self._deeds.life(
            foreign, kind=kind, name=metadata.name, uid=metadata.uid, service=metadata.service, time=time
        )
        hidden = kind.endswith("Chaos") or any(mark in field for field in foreign.fields for mark in _CHAOS_MARKS)
        self._external += [(event, hidden) for event in events]

    def newest(self) -> Mapping[str, int]:
        """Return the last barrier up to which no watch was broken."""
        return {self.source: self._whole_until}

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return rollouts, pods, autoscalers, routes, Events; rows in the order of their resourceVersions, which is that of their times."""
        events, self._external = self._external, []
        if self._rollouts:
            events.append((RolloutsObserved(time=now, rows=tuple(self._rollouts)), False))
        if self._pods:
            events.append((PodsTransitioned(time=now, rows=tuple(self._pods)), False))
        if self._autoscalers:
            events.append((AutoscalersObserved(time=now, rows=tuple(self._autoscalers)), False))
        if self._routes:
            events.append((RoutesObserved(time=now, rows=tuple(self._routes)), False))
        for truth, rows in self._events.items():
            if rows:
                events.append((KubernetesEventsObserved(time=now, rows=tuple(rows)), truth))
        self._rollouts, self._pods, self._events = [], [], {False: [], True: []}
        self._autoscalers, self._routes = [], []
        gaps = (*self._gaps.flush(now), *self._restarts.flush(now))
        return [*events, *((gap, False) for gap in gaps)]
