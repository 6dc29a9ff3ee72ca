"""One suite, two arms: a stand is an embedded twin in virtual time, or whatever a kubeconfig leads to, in its own time.

In: the environment of `make test-cluster` (docs/how-to/test-a-cluster.md); without `OCG_TEST_KUBECONFIG` the cluster's arm is skipped. Out:
`OpenStand`, which opens a stand with actuators that are the gym's own, and looks at it through its APIs alone. What an arm knows
of its kind of stand is where it is and how its time passes.

A cluster outlives the tests: each begins when every Deployment is as it should be, and whatever it has changed is put back at its end.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
import msgspec
import pytest
from aiohttp import web

import otel_control_gym as ocg
from otel_control_gym.actuators import Entry, open_actuators, parse_action
from otel_control_gym.actuators.flags import FlagClient, open_flags
from otel_control_gym.actuators.janitor import Janitor
from otel_control_gym.actuators.kubernetes_client import MERGE, KubernetesClient, open_kubernetes
from otel_control_gym.actuators.lifecycle import Lifecycle
from otel_control_gym.actuators.permissions import acting, needed
from otel_control_gym.actuators.transport import Refused
from otel_control_gym.actuators.workload import LoadGenerator, open_load_generator
from otel_control_gym.engine.clock import SECOND, wall_now, wall_timer
from otel_control_gym.engine.events import ActionApplied, ActionPrechecked, ActionReverted, Event, InverseCall
from otel_control_gym.engine.protocols import ActionRecord, Endpoints, Request
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.cluster.contexts import check_mark, endpoints_of
from otel_control_gym.stands.twin.servers.listening import listen
from otel_control_gym.stands.twin.stand import TwinStand

CONFIGURATION = "small-core"
KUBECONFIG, LOAD_GENERATOR, FLAGD = "OCG_TEST_KUBECONFIG", "OCG_TEST_LOAD_GENERATOR", "OCG_TEST_FLAGD"
CHAOS = "apis/chaos-mesh.org/v1alpha1"
PATIENCE_SECONDS = 600  #: of the stand's time, for whatever is bound to happen
LOOK_SECONDS = 2.0  #: of the stand's time, between two looks
WALL_SECONDS = (
    1800  #: that one test may take on a cluster: its own time decides, this ends one whose clock stands still
)
_RESTARTED = "kubectl.kubernetes.io/restartedAt"

Snapshot = dict[str, Any]


class Passing(Protocol):
    """How a stand's time passes."""

    async def now(self) -> int:
        """Return the stand's time [ns]."""
        ...

    async def reach(self, moment: int) -> int:
        """Let the stand live until a moment at least; return its time then."""
        ...


class VirtualTime:
    """The embedded twin's: it stands still unless it is told to pass."""

    def __init__(self, stand: TwinStand) -> None:
        self._stand = stand

    async def now(self) -> int:
        return self._stand.now

    async def reach(self, moment: int) -> int:
        await self._stand.advance(max(moment, self._stand.now))
        return self._stand.now


class ServersTime:
    """A cluster's: what its API server stamps on an object that is only tried (to the second), at whatever pace that goes."""

    def __init__(self, kubernetes: KubernetesClient, namespace: str) -> None:
        self._kubernetes = kubernetes
        self._probe = InverseCall(
            api="kubernetes",
            method="POST",
            path=f"api/v1/namespaces/{namespace}/configmaps",
            body={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ocg-test-clock"}},
        )
        self._first: tuple[int, float] | None = None

    async def now(self) -> int:
        answer: dict[str, Any] = await self._kubernetes.write(self._probe, dict, dry_run=True)
        now = round(datetime.fromisoformat(answer["metadata"]["creationTimestamp"]).timestamp()) * SECOND
        self._first = self._first or (now, wall_timer())
        return now

    async def reach(self, moment: int) -> int:
        while (now := await self.now()) < moment:  # noqa: ASYNC110 - a cluster's clock tells nobody
            await anyio.sleep(min(1.0, max(0.02, (moment - now) / SECOND / self._pace(now))))
        return now

    def _pace(self, now: int) -> float:
        """Return how many of its seconds have passed per second of ours so far; at least 1."""
        assert self._first is not None
        began, wall = self._first
        return max(1.0, (now - began) / SECOND / max(1.0, wall_timer() - wall))


class Stand:
    """A stand of either kind, its actuators, and what they logged."""

    def __init__(
        self,
        config: RunConfig,
        endpoints: Endpoints,
        time: Passing,
        kubernetes: KubernetesClient,
        load_generator: LoadGenerator,
        flags: FlagClient,
    ) -> None:
        self.config, self.endpoints, self.time = config, endpoints, time
        self.log: list[Event] = []
        self.on_append: dict[type[Event], Callable[[], Awaitable[None]]] = {}
        self.actuators: Lifecycle
        self._kubernetes, self._load_generator, self._flags = kubernetes, load_generator, flags

    # --- what a test does ------------------------------------------------------------------------------------------------

    async def append(self, event: Event, *, truth: bool = False) -> int:
        self.log.append(event)
        if (hook := self.on_append.pop(type(event), None)) is not None:
            await hook()
        return len(self.log)

    async def perform(self, action: dict[str, Any]) -> ActionRecord:
        request = Request(action=parse_action(action), actor="human", truth=False)
        return await self.actuators.perform(request, await self.time.now())

    async def live_until(self, condition: Callable[[], bool], what: str) -> None:
        """Do what is due, when it is due, until something is so."""
        end = await self.time.now() + PATIENCE_SECONDS * SECOND
        while not condition():
            due = self.actuators.due()
            assert due is not None, f"{what}: nothing is due any more, and it isn't so"
            now = await self.time.reach(due)
            assert now < end, f"{what}: isn't so after {PATIENCE_SECONDS} s of the stand's time"
            await self.actuators.run_due(now)

    async def settle(self, record: ActionRecord) -> ActionRecord:
        await self.live_until(lambda: record.settled is not None, f"{record.action} settles")
        return record

    async def perform_and_settle(self, action: dict[str, Any]) -> ActionRecord:
        return await self.settle(await self.perform(action))

    async def prepare(self, entry: Entry) -> None:
        """Perform that without which an entry's example has nothing to change."""
        for action in entry.preparation:
            record = await self.perform_and_settle(action)
            assert record.status == "applied", record.reason
        await self.wait_calm()

    async def call(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Any:
        """Call the Kubernetes API behind the actuators' back; `path` is relative to the namespace, of apps/v1."""
        path = f"apis/apps/v1/namespaces/{self.endpoints.namespace}/{path}"
        return await self._kubernetes.call(method, path, dict, body=body, content_type=content_type)

    async def scale(self, name: str, replicas: int) -> None:
        """Scale behind the actuators' back, and wait until its pods are as many, those that terminate included."""
        await self.call("PATCH", f"deployments/{name}/scale", {"spec": {"replicas": replicas}}, content_type=MERGE)
        labels = (await self.call("GET", f"deployments/{name}"))["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))

        async def done() -> bool:
            return len(await self._items("api/v1", "pods", labelSelector=selector)) == replicas

        await self._wait(done, f"{name} has {replicas} pods")

    async def delete(self, name: str) -> None:
        """Delete a Deployment behind the actuators' back, and wait until it is gone; its pods live on."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
        await self.call("DELETE", f"deployments/{name}", options)

        async def gone() -> bool:
            return name not in await self.generations()

        await self._wait(gone, f"Deployment {name} is gone")

    async def delete_pods(self, name: str) -> list[str]:
        """Delete the pods of a Deployment behind the actuators' back, at once; return their names."""
        labels = (await self.call("GET", f"deployments/{name}"))["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        names = [_name(pod) for pod in await self._items("api/v1", "pods", labelSelector=selector)]
        for pod in names:
            path = f"api/v1/namespaces/{self.endpoints.namespace}/pods/{pod}"
            await self._kubernetes.call("DELETE", path, dict, body={"gracePeriodSeconds": 0})
        return names

    # --- what a test sees --------------------------------------------------------------------------------------------------

    async def snapshot(self) -> Snapshot:
        """Return what is wanted of the stand, as its APIs tell it: what an action changes and its reverse has to put back."""
        services = await self._items("api/v1", "services")
        flags = (await self._flags.document())["flags"] if self.endpoints.flagd else {}
        return {
            "deployments": {_name(item): _wanted(item) for item in await self.deployments()},
            "services": {_name(item): [item["spec"].get("selector"), item["spec"]["ports"]] for item in services},
            "autoscalers": [
                _name(item) for item in await self._items("apis/autoscaling/v2", "horizontalpodautoscalers")
            ],
            "ours": await self.ours(),
            "load": await self._load(),
            "flags": {name: flag["defaultVariant"] for name, flag in sorted(flags.items())},
        }

    async def pods(self) -> list[tuple[str, str, int]]:
        """Return name, UID and restarts of each pod."""
        return [
            (
                _name(pod),
                pod["metadata"]["uid"],
                sum(status["restartCount"] for status in pod["status"].get("containerStatuses", ())),
            )
            for pod in await self._items("api/v1", "pods")
        ]

    async def deployments(self) -> list[dict[str, Any]]:
        return await self._items("apis/apps/v1", "deployments")

    async def generations(self) -> dict[str, tuple[str, int]]:
        """Return UID and generation of each Deployment: what no write leaves as it was."""
        return {
            _name(item): (item["metadata"]["uid"], item["metadata"]["generation"]) for item in await self.deployments()
        }

    async def ours(self) -> list[str]:
        """Return the objects that bear an action's label."""
        collections = [
            ("apis/apps/v1", "deployments"),
            ("api/v1", "services"),
            ("api/v1", "configmaps"),
            ("apis/autoscaling/v2", "horizontalpodautoscalers"),
        ]
        if await self.has_chaos_mesh():
            collections += [(CHAOS, kind) for kind in ("networkchaos", "podchaos", "stresschaos")]
        found = {
            kind: await self._items(api, kind, labelSelector="otel-control-gym/action") for api, kind in collections
        }
        return [f"{kind}/{_name(item)}" for kind, items in found.items() for item in items]

    async def has_chaos_mesh(self) -> bool:
        try:
            await self._kubernetes.call("GET", CHAOS, dict)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            return False
        return True

    async def wait_calm(self) -> None:
        """Wait until each Deployment has the pods that it wants, all of them available, and no others."""

        async def calm() -> bool:
            return all(_is_calm(item) for item in await self.deployments())

        await self._wait(calm, "every Deployment is available")

    async def skip_unless_it_can(self, entry: Entry) -> None:
        """Skip a test where the stand lacks what an entry works through, or we weren't told where it is."""
        services = self.config.public.services.name
        if entry.configuration != services:
            pytest.skip(f"{entry.type}: its example is for {entry.configuration}, this stand is {services}")
        if any("chaos-mesh.org" in call for call in entry.api_calls) and not await self.has_chaos_mesh():
            pytest.skip(f"{entry.type}: the cluster has no Chaos Mesh")
        if entry.type == "set_workload" and not self.endpoints.load_generator:
            pytest.skip(f"{entry.type}: {LOAD_GENERATOR} doesn't say where the load generator is")
        if entry.type == "feature_flag" and not self.endpoints.flagd:
            pytest.skip(f"{entry.type}: {FLAGD} doesn't say where flagd is")

    # --- its end ---------------------------------------------------------------------------------------------------------

    async def put_back(self, before: Snapshot) -> None:
        """Take back what is in force, then what a failed test has left: the stand is to be as it was."""
        await self.actuators.close(await self.time.now())
        await self.live_until(lambda: self.actuators.due() is None, "everything is settled")
        if await self.snapshot() != before:
            janitor = Janitor(
                self._kubernetes, self._load_generator, self._flags, self.endpoints.namespace, self._sleep
            )
            cleaned = await janitor.clean(self._inverses())
            after = await self.snapshot()
            left = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
            assert not left, f"the stand isn't as it was: {left}; {cleaned.problems}"

    def _inverses(self) -> list[InverseCall]:
        """Return the calls that take back what was applied and not seen to be taken back, newest change first."""
        applied = {event.action_id for event in self.log if isinstance(event, ActionApplied)}
        back = {event.action_id for event in self.log if isinstance(event, ActionReverted) and event.verified}
        prechecks = [event for event in self.log if isinstance(event, ActionPrechecked)]
        return [call for event in reversed(prechecks) if event.action_id in applied - back for call in event.inverse]

    async def _sleep(self, seconds: float) -> None:
        await self.time.reach(await self.time.now() + round(seconds * SECOND))

    async def _wait(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        end = await self.time.now() + PATIENCE_SECONDS * SECOND
        while not await condition():
            assert await self.time.now() < end, f"{what}: isn't so after {PATIENCE_SECONDS} s of the stand's time"
            await self._sleep(LOOK_SECONDS)

    async def _items(self, api: str, kind: str, **query: str) -> list[dict[str, Any]]:
        path = f"{api}/namespaces/{self.endpoints.namespace}/{kind}"
        items: list[dict[str, Any]] = (await self._kubernetes.call("GET", path, dict, query=query))["items"]
        return items

    async def _load(self) -> Any:
        if not self.endpoints.load_generator:
            return None
        try:
            account = await self._load_generator.call("GET", "ocg/workload", dict)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            return (await self._load_generator.call("GET", "stats/requests", dict))["user_count"]  # a stock Locust
        return [account["users_target"], account.get("rate_per_s"), account.get("mix")]


def _name(item: dict[str, Any]) -> str:
    return str(item["metadata"]["name"])


def _is_calm(item: dict[str, Any]) -> bool:
    status, wanted = item.get("status", {}), item["spec"]["replicas"]  # a new one has no status yet
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration") == item["metadata"]["generation"] and counts == [wanted] * 3


def _wanted(item: dict[str, Any]) -> Any:
    """Return a Deployment's replicas and pod template; when that was restarted last is nobody's wish."""
    template = item["spec"]["template"]
    annotations = template["metadata"].get("annotations") or {}
    kept = {key: value for key, value in annotations.items() if key != _RESTARTED}
    return [item["spec"]["replicas"], {**template, "metadata": {**template["metadata"], "annotations": kept}}]


# --- the arms -------------------------------------------------------------------------------------------------------------


def _config() -> RunConfig:
    config = ocg.resolve(CONFIGURATION, workload="steady", seed=7)
    return msgspec.structs.replace(config, workload=msgspec.structs.replace(config.workload, users=10))


async def _take(_: web.Request) -> web.Response:
    return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def _open_clients(
    config: RunConfig, endpoints: Endpoints, twin: TwinStand | None, seed: int
) -> AsyncIterator[Stand]:
    async with (
        open_kubernetes(endpoints) as kubernetes,
        open_load_generator(endpoints) as load_generator,
        open_flags(endpoints) as flags,
    ):
        time: Passing = ServersTime(kubernetes, endpoints.namespace) if twin is None else VirtualTime(twin)
        stand = Stand(config, endpoints, time, kubernetes, load_generator, flags)
        async with open_actuators(endpoints, config.public, stand.append, seed=seed, run_id="SUITE") as stand.actuators:
            yield stand


@asynccontextmanager
async def _open_twin() -> AsyncIterator[Stand]:
    sink = web.Application(client_max_size=2**26)
    sink.router.add_post("/{path:.*}", _take)
    twin, config = TwinStand(), _config()
    async with AsyncExitStack() as stack:
        otlp = await stack.enter_async_context(listen(sink))
        await stack.enter_async_context(twin.open())
        await twin.reset(config, otlp_endpoint=otlp)
        stand = await stack.enter_async_context(_open_clients(config, twin.endpoints, twin, config.seed))
        await stand.time.reach(twin.now + 20 * SECOND)
        yield stand


@asynccontextmanager
async def _open_cluster(kubeconfig: Path) -> AsyncIterator[Stand]:
    urls = {"load_generator": os.environ.get(LOAD_GENERATOR, ""), "flagd": os.environ.get(FLAGD, "")}
    config = _config()
    with endpoints_of(kubeconfig, **urls) as endpoints:
        await check_mark(endpoints)
        # Names of objects derive from the seed: another one for each test, so that a test never meets the last one's names.
        async with _open_clients(config, endpoints, None, seed=wall_now()) as stand:
            deployed = {_name(item) for item in await stand.deployments()}
            missing = sorted(set(config.public.services.services) - deployed)
            assert not missing, f"{kubeconfig}: namespace {endpoints.namespace} has no Deployment {', '.join(missing)}"
            yield stand


@pytest.fixture(autouse=True)
def every_call_is_granted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compare each call of the actuators with the role that the catalogue says they need; discovery needs none."""
    granted, denied = frozenset(acting()), dict[str, None]()
    send = KubernetesClient._payload

    async def compared(
        client: KubernetesClient, method: str, path: str, body: Any, content_type: str, query: Any
    ) -> bytes:
        if client._book is not None and "/namespaces/" in path and needed(method, path, query) not in granted:
            denied[f"{method} {path}: {needed(method, path, query)}"] = None
        return await send(client, method, path, body, content_type, query)

    monkeypatch.setattr(KubernetesClient, "_payload", compared)
    yield
    assert not denied, f"the catalogue's role doesn't grant: {'; '.join(denied)}"


OpenStand = Callable[[], AbstractAsyncContextManager[Stand]]
Arm = Literal["twin", "cluster"]


@pytest.fixture(
    params=["twin", pytest.param("cluster", marks=[pytest.mark.cluster, pytest.mark.timeout(WALL_SECONDS)])]
)
def open_stand(request: pytest.FixtureRequest) -> OpenStand:
    """Return what opens a calm stand, and closes it as it was."""
    arm: Arm = request.param
    kubeconfig = os.environ.get(KUBECONFIG, "")
    if arm == "cluster" and not kubeconfig:
        pytest.skip("no cluster is given: make test-cluster KUBECONFIG=FILE")

    @asynccontextmanager
    async def opened() -> AsyncIterator[Stand]:
        async with _open_twin() if arm == "twin" else _open_cluster(Path(kubeconfig)) as stand:
            await stand.wait_calm()
            before = await stand.snapshot()
            try:
                yield stand
            finally:
                await stand.put_back(before)

    return opened
