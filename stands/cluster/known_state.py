"""The known state of a stand, and the way back to it.

In: a connection to a stand, the run's configuration, a level. Out: the stand in its known state, seen to be there, and a `Reset` that says
what was done. What can't be reached is an error with its reason.

- `soft`: chaos objects and whatever else the gym has made go; Deployments, Services and flags get back what is wanted of them (`baseline`);
  the load is set to the workload's.
- `data`: then, besides, what holds state is restarted (its volumes are gone with its pod), after it its clients, callers last.
- `reinstall`: isn't done here but in `reinstallation`, with an administrator's rights.

Equal objects prove nothing about state: after `soft` a cart may still be full, a JIT warm, a connection pinned. That is why the level is
recorded, and why `verification` looks at the stand afterwards. Permission to delete and patch is the operator's (`deploy/stand/rbac.yaml`).
Next: `availability` for what is waited for, `kept_baseline` for where the baseline lies.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from otel_control_gym.engine.clock import rfc3339, wall_now, wall_timer
from otel_control_gym.engine.cluster_access import ResetLevel
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.settings import RunConfig, ServiceConfiguration
from otel_control_gym.stands.cluster.availability import Patience, wait_available
from otel_control_gym.stands.cluster.baseline import Baseline, Kept, kept_deployment, kept_service, restoring
from otel_control_gym.stands.cluster.connection import JSON_PATCH, STRATEGIC_PATCH, Answer, Connection
from otel_control_gym.stands.cluster.kept_baseline import keep_baseline, kept_baseline
from otel_control_gym.stands.cluster.load import set_load, wait_load
from otel_control_gym.stands.cluster.stand_flags import read_flags, restore_flags
from otel_control_gym.stands.cluster.verification import Verification, verify

__all__ = ("RemoveChaos", "Reset", "restart_layers", "restore")

RemoveChaos = Callable[[], Awaitable[Sequence[str]]]
"""Removes every chaos object of the gym from the stand; returns what is left, which should be nothing."""

_MANAGED = "app.kubernetes.io/managed-by=otel-control-gym"
_NOT_FOUND = 404
_OURS = (
    "apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "apis/apps/v1/namespaces/{}/deployments",
    "api/v1/namespaces/{}/services",
    "api/v1/namespaces/{}/configmaps",
)
_LOGGER = logging.getLogger(__name__)


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to bring a stand back, and what was seen then."""

    level: ResetLevel
    removed: tuple[str, ...] = ()  #: paths of objects that the gym had made
    restored: tuple[str, ...] = ()  #: objects and flags that weren't as they are wanted
    restarted: tuple[str, ...] = ()
    adopted: bool = False  #: there was no baseline: what was found became it
    verification: Verification = Verification()
    wall_seconds: float = 0.0


async def restore(
    connection: Connection,
    config: RunConfig,
    level: ResetLevel,
    *,
    remove_chaos: RemoveChaos,
    adopt: bool = False,
    hold_seconds: float = 60.0,
    patience: Patience = Patience(),
) -> Reset:
    """Bring a stand to its known state, and see that it is there.

    Args:
        adopt: take what is there as what is wanted, once it is available, whatever was wanted before; its band is measured anew.
        hold_seconds: how long error rate and latency are to lie in the stand's band, in its time; 0: they aren't looked at.
        patience: how long to wait for what takes its time.

    Raises: StandError: it can't be, and why.
    """
    if level == "reinstall":
        raise StandError(
            "level reinstall: a run can't install its stand anew\n"
            "  `ocg stand reset --level reinstall`, with the rights and the options of `ocg stand up`; then run with soft or data"
        )
    began = wall_timer()
    known = _KnownState(connection, config)
    await known.check_services()
    left = await remove_chaos()
    if left:
        raise StandError(
            f"chaos objects can't be removed: {'; '.join(left)}\n  `ocg doctor` says what is wrong with Chaos Mesh"
        )
    removed = await known.remove_ours()
    wanted = None if adopt else await kept_baseline(connection)
    restored = await known.restore(wanted) if wanted is not None else []
    await wait_available(connection, patience)
    baseline = wanted or await known.present()
    restarted = await known.restart(patience) if level == "data" else []
    if wanted is not None:
        restored += await restore_flags(connection, wanted.flags, patience)
    await set_load(connection, config)
    await wait_load(connection, config, patience)
    verification, verified = await verify(connection, config, baseline, hold_seconds=hold_seconds, patience=patience)
    if verified != wanted:
        await keep_baseline(connection, verified)
    return Reset(
        level=level,
        removed=tuple(removed),
        restored=tuple(restored),
        restarted=tuple(restarted),
        adopted=wanted is None,
        verification=verification,
        wall_seconds=round(wall_timer() - began, 3),
    )


def restart_layers(services: ServiceConfiguration) -> list[list[str]]:
    """Return what is restarted, in order: what holds state first, then layer by layer whoever calls, callers last.

    Whoever calls in a circle comes with the rest of the circle, all at once.
    """
    stateful = [name for name, service in services.services.items() if service.stateful]
    others = [name for name in services.services if name not in stateful]
    calls: dict[str, set[str]] = {name: set() for name in others}
    for edge in services.edges:
        if edge.source in calls and edge.target in calls and edge.source != edge.target:
            calls[edge.source].add(edge.target)
    layers = [stateful] if stateful else []
    try:
        sorter = TopologicalSorter(calls)
        sorter.prepare()
        while sorter.is_active():
            ready = sorted(sorter.get_ready())
            layers.append(ready)
            sorter.done(*ready)
    except CycleError:
        layers = [*layers[:1], others]
    return [layer for layer in layers if layer]


class _KnownState:
    """The objects of one stand."""

    def __init__(self, connection: Connection, config: RunConfig) -> None:
        self._connection, self._config = connection, config
        endpoints = connection.endpoints
        self._namespace = endpoints.namespace
        self._deployments = f"apis/apps/v1/namespaces/{self._namespace}/deployments"
        self._services = f"api/v1/namespaces/{self._namespace}/services"

    async def check_services(self) -> None:
        """Raises: StandError: a service of the configuration has no Deployment."""
        there = {item["metadata"]["name"] for item in await self._list(self._deployments)}
        wanted = self._config.public.services
        missing = [
            name for name, service in wanted.services.items() if name not in there and not service.optional_group
        ]
        if missing:
            raise StandError(
                f"namespace {self._namespace} has no Deployment {', '.join(missing)}, which {wanted.name} needs\n"
                f"  another configuration may be installed there; `ocg doctor --config {wanted.name}` shows the rest"
            )

    async def remove_ours(self) -> list[str]:
        """Delete what the gym has made, chaos apart; return the paths."""
        removed = []
        for pattern in _OURS:
            collection = pattern.format(self._namespace)
            for item in await self._list(collection, {"labelSelector": _MANAGED}, missing=True):
                path = f"{collection}/{item['metadata']['name']}"
                answer = await self._connection.kubernetes("DELETE", path)
                if not answer.ok and answer.status != _NOT_FOUND:
                    raise StandError(f"{path} can't be deleted: {answer.problem}")
                removed.append(path)
        return removed

    async def present(self) -> Baseline:
        """Return what is there, as what is wanted from now on.

        Raises: StandError: it can't be that: something has no pod.
        """
        deployments = {item["metadata"]["name"]: kept_deployment(item) for item in await self._list(self._deployments)}
        idle = [name for name, kept in deployments.items() if not kept.spec["replicas"] and not self._is_optional(name)]
        if idle:
            raise StandError(
                f"nothing says what is wanted of this stand, and {', '.join(idle)} has no pod: that can't be it\n"
                "  scale it up, then reset again"
            )
        services = {item["metadata"]["name"]: kept_service(item) for item in await self._list(self._services)}
        return Baseline(deployments=deployments, services=services, flags=await read_flags(self._connection))

    def _is_optional(self, name: str) -> bool:
        service = self._config.public.services.services.get(name)
        return service is None or service.optional_group is not None

    async def restore(self, baseline: Baseline) -> list[str]:
        """Patch what isn't as it is wanted; return what that was."""
        restored = []
        for collection, wanted, kept_of in (
            (self._deployments, baseline.deployments, kept_deployment),
            (self._services, baseline.services, kept_service),
        ):
            there = {item["metadata"]["name"]: item for item in await self._list(collection)}
            for name, kept in wanted.items():
                if name not in there:
                    raise StandError(f"{collection}/{name} is gone: `ocg stand up` makes it again")
                restored += await self._restore_one(f"{collection}/{name}", kept, kept_of(there[name]), there[name])
        return restored

    async def _restore_one(self, path: str, wanted: Kept, present: Kept, item: Mapping[str, Any]) -> list[str]:
        if wanted.uid != present.uid:
            raise StandError(
                f"{path} isn't the one whose state is known: it was made anew\n  `ocg stand reset --adopt` takes what is there now"
            )
        patch = restoring(wanted, present, item)
        if not patch:
            return []
        answer = await self._connection.kubernetes("PATCH", path, body=patch, content_type=JSON_PATCH)
        if not answer.ok:
            raise StandError(f"{path} can't be restored: {answer.problem}")
        _LOGGER.info("restored %s", path)
        return [path]

    async def restart(self, patience: Patience) -> list[str]:
        """Restart what holds state, then its clients, layer by layer; return the names."""
        there = {item["metadata"]["name"]: item for item in await self._list(self._deployments)}
        restarted: list[str] = []
        for layer in restart_layers(self._config.public.services):
            names = [name for name in layer if name in there and there[name]["spec"].get("replicas")]
            stamp = {"kubectl.kubernetes.io/restartedAt": rfc3339(wall_now())}
            body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
            for name in names:
                path = f"{self._deployments}/{name}"
                answer = await self._connection.kubernetes("PATCH", path, body=body, content_type=STRATEGIC_PATCH)
                if not answer.ok:
                    raise StandError(f"{path} can't be restarted: {answer.problem}")
            await wait_available(self._connection, patience)
            _LOGGER.info("restarted %s", ", ".join(names))
            restarted += names
        return restarted

    async def _list(
        self, collection: str, query: Mapping[str, str] | None = None, *, missing: bool = False
    ) -> list[dict[str, Any]]:
        """Return the objects of a collection; `missing`: the cluster needn't have it."""
        answer: Answer = await self._connection.kubernetes("GET", collection, query=query)
        if missing and answer.status == _NOT_FOUND:
            return []
        if not answer.ok:
            raise StandError(f"{collection} can't be listed: {answer.problem}")
        return answer.items
