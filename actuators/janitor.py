"""Takes back what a gym that died has left on a stand.

In: the inverse calls that a log holds, newest change first; a stand that still lives. Out: what was done, and whether the stand was
seen clean of it. Besides the inverses the chaos objects of the actions are removed, whatever their names, by the labels that say who
manages them and for which action; those that won't go are forced, and at last their finalizers are taken.

A crash may come in the middle of the janitor's own work: each of its calls can be repeated.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from otel_control_gym.actuators.aftermath import aftermath_of, closing_events
from otel_control_gym.actuators.chaos import ACTION_LABEL, FORCE_SECONDS, GROUP
from otel_control_gym.actuators.flags import FlagClient, open_flags
from otel_control_gym.actuators.inverses import holds
from otel_control_gym.actuators.kubernetes_client import FIELD_MANAGER, MERGE, KubernetesClient, open_kubernetes
from otel_control_gym.actuators.objects import Items, Metadata, Part
from otel_control_gym.actuators.transport import Busy, CallError, Refused
from otel_control_gym.actuators.workload import LoadGenerator, open_load_generator
from otel_control_gym.engine.events import Event, InverseCall
from otel_control_gym.engine.protocols import Endpoints

__all__ = ("Cleaned", "Janitor", "open_janitor", "put_in_order")

CHAOS_GROUP = GROUP.partition("/")[0]
CHAOS_KINDS = ("podchaos", "networkchaos", "stresschaos")
LOOK_SECONDS = 1.0  #: between two looks at what should be gone
PATIENCE_SECONDS = 60.0  #: after which what is still there is reported, not waited for
_FORCE = {"metadata": {"annotations": {"chaos-mesh.chaos-mesh.org/cleanFinalizer": "forced"}}}
_BARE = {"metadata": {"finalizers": None}}
_NOT_FOUND, _CONFLICT = 404, 409

Sleep = Callable[[float], Awaitable[None]]


class _Named(Part, frozen=True, kw_only=True):
    metadata: Metadata


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What a janitor did."""

    calls: tuple[str, ...] = ()  #: inverse calls that were answered
    removed: tuple[str, ...] = ()  #: chaos objects that are gone
    forced: tuple[str, ...] = ()  #: those of them that didn't go by themselves
    problems: tuple[str, ...] = ()  #: what couldn't be done

    @property
    def clean(self) -> bool:
        """Return whether everything was done and seen."""
        return not self.problems


class Janitor:
    """Cleans one stand.

    Args:
        kubernetes, load_generator, flags: the stand's interfaces.
        namespace: the application's.
        sleep: waits a number of seconds of the stand's time.
    """

    def __init__(
        self,
        kubernetes: KubernetesClient,
        load_generator: LoadGenerator,
        flags: FlagClient,
        namespace: str,
        sleep: Sleep,
    ) -> None:
        self._kubernetes, self._load_generator, self._flags = kubernetes, load_generator, flags
        self._namespace = namespace
        self._sleep = sleep

    async def clean(self, inverses: Sequence[InverseCall], *, action_id: str | None = None) -> Cleaned:
        """Make the inverse calls in their order, then remove every chaos object of ours, and look until it is gone.

        `action_id`: only those that were made for this action: others may belong to a gym that lives.
        """
        calls: list[str] = []
        problems: list[str] = []
        for call in inverses:
            name = f"{call.method} {call.path}"
            try:
                await self._make(call)
                seen = await self._seen(call)
            except CallError as error:
                problems.append(f"{name}: {error}")
                continue
            calls.append(name)
            if not seen:
                problems.append(f"{name}: answered, but the stand doesn't show it")
        try:
            removed, forced, left = await self._remove_chaos(action_id)
        except CallError as error:
            removed, forced, left = [], [], []
            problems.append(str(error))
        problems += [f"{path} is still there" for path in left]
        return Cleaned(calls=tuple(calls), removed=tuple(removed), forced=tuple(forced), problems=tuple(problems))

    async def _make(self, call: InverseCall) -> None:
        """Make a call; what is gone needs no deletion, and what is there again no creation."""
        try:
            match call.api:
                case "kubernetes":
                    await self._kubernetes.write(call, dict)
                case "load_generator":
                    await self._load_generator.write(call)
                case "flagd":
                    await self._flags.call(call.method, call.path, dict, body=call.body)
        except Refused as refusal:
            if refusal.status != _NOT_FOUND or call.method != "DELETE":
                raise
        except Busy as busy:
            if busy.status != _CONFLICT or call.method != "POST":
                raise

    async def _seen(self, call: InverseCall) -> bool:
        """Return whether the stand shows what a call asked for; what is deleted may take its time."""
        if call.api == "load_generator":
            account = await self._load_generator.call("GET", "ocg/workload", dict)
            return _told(call, account)
        if call.api == "flagd":
            assert isinstance(call.body, dict)
            flags = (await self._flags.document())["flags"]
            return holds(
                {key: {"defaultVariant": flag["defaultVariant"]} for key, flag in call.body["data"]["flags"].items()},
                flags,
            )
        path = f"{call.path}/{_name(call)}" if call.method == "POST" else call.path
        waited = 0.0
        while True:
            try:
                found: dict[str, Any] | None = await self._kubernetes.call("GET", path, dict)
            except Refused as refusal:
                if refusal.status != _NOT_FOUND:
                    raise
                found = None
            if call.method != "DELETE":
                return found is not None and (call.method == "POST" or holds(call.body, found))
            if found is None or waited >= FORCE_SECONDS or CHAOS_GROUP in path:
                return found is None or CHAOS_GROUP in path  # chaos objects are seen to at the end, all together
            await self._sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS

    async def _remove_chaos(self, action_id: str | None) -> tuple[list[str], list[str], list[str]]:
        """Delete chaos objects of ours; return those that are gone, those that were forced, those that are left."""
        found = await self._chaos(action_id)
        removed, forced = list(found), []
        for path in found:
            await self._make(InverseCall(api="kubernetes", method="DELETE", path=path))
        waited = 0.0
        while found and waited < PATIENCE_SECONDS:
            await self._sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
            found = await self._chaos(action_id)
            patch = None if waited < FORCE_SECONDS else _FORCE if waited < FORCE_SECONDS + 10 else _BARE
            for path in found if patch is not None else ():
                await self._patch(path, patch)
                if path not in forced:
                    forced.append(path)
        return [path for path in removed if path not in found], forced, found

    async def _patch(self, path: str, patch: dict[str, Any] | None) -> None:
        call = InverseCall(api="kubernetes", method="PATCH", path=path, content_type=MERGE, body=patch)
        try:
            await self._kubernetes.write(call, dict)
        except Refused as refusal:
            if refusal.status != _NOT_FOUND:
                raise

    async def _chaos(self, action_id: str | None) -> list[str]:
        """Return the paths of our chaos objects; a cluster without Chaos Mesh has none."""
        paths = []
        selector = f"app.kubernetes.io/managed-by={FIELD_MANAGER}"
        query = {"labelSelector": selector if action_id is None else f"{selector},{ACTION_LABEL}={action_id}"}
        for kind in CHAOS_KINDS:
            collection = f"apis/{GROUP}/namespaces/{self._namespace}/{kind}"
            try:
                items = (await self._kubernetes.call("GET", collection, Items[_Named], query=query)).items
            except Refused as refusal:
                if refusal.status != _NOT_FOUND:
                    raise
                continue
            paths += [f"{collection}/{item.metadata.name}" for item in items]
        return paths


def _name(call: InverseCall) -> str:
    return str(call.body["metadata"]["name"]) if isinstance(call.body, dict) else ""


def _told(call: InverseCall, account: dict[str, Any]) -> bool:
    """Return whether the load generator's account shows what it was asked for."""
    body = call.body if isinstance(call.body, dict) else {}
    match call.path:
        case "swarm":
            return bool(account["users_target"] == int(body["user_count"]))
        case "ocg/rate":
            return bool(account.get("rate_per_s") == float(body["rate_per_s"]))
        case _:
            total = sum(body.values())
            mix = account.get("mix", {})
            return all(math.isclose(mix.get(flow, -1.0), weight / total, rel_tol=1e-6) for flow, weight in body.items())


async def put_in_order(
    events: Iterable[tuple[Event, bool]],
    now: int,
    janitor: Janitor | None,
    taken_back: Mapping[str, Any] | None = None,
) -> list[tuple[Event, bool]]:
    """Take back what a crashed run's log says may be on the stand; return the events that its attempts lack, as (event, truth).

    Args:
        events: those of the crashed run's log, of both streams, as (event, truth).
        now: time of what is appended [ns].
        janitor: of the stand; None: the stand died with the run, so there is nothing to take back and nobody to look.
        taken_back: what a janitor on the stand's side has taken back already and noted, by action id (`leases.taken_back`). That isn't
            done again: since then the stand may have changed hands.
    """
    attempts = aftermath_of(events)
    noted = taken_back or {}
    cleaned: dict[str, Cleaned] = {}
    for attempt in reversed(attempts) if janitor is not None else ():
        assert janitor is not None
        if attempt.inverse and attempt.action_id not in noted:
            cleaned[attempt.action_id] = await janitor.clean(attempt.inverse, action_id=attempt.action_id)
    appended: list[tuple[Event, bool]] = []
    for attempt in attempts:
        attempt.taken_back = attempt.action_id in noted
        done = cleaned.get(attempt.action_id)
        if attempt.taken_back:
            clean, evidence = True, {"janitor": noted[attempt.action_id]}
        elif done is not None:
            clean, evidence = done.clean, {"janitor": msgspec.to_builtins(done)}
        else:
            clean, evidence = None, {}
        appended += [(event, attempt.truth) for event in closing_events(attempt, now, cleaned=clean, evidence=evidence)]
    return appended


@asynccontextmanager
async def open_janitor(endpoints: Endpoints, sleep: Sleep) -> AsyncIterator[Janitor]:
    """Open a janitor for a stand; `sleep` waits seconds of the stand's time."""
    async with (
        open_kubernetes(endpoints) as kubernetes,
        open_load_generator(endpoints) as load_generator,
        open_flags(endpoints) as flags,
    ):
        yield Janitor(kubernetes, load_generator, flags, endpoints.namespace, sleep)
