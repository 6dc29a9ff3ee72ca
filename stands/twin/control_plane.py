"""The twin's Kubernetes in virtual time: objects, controllers and what they ask of the simulated machines.

In: the application, the settings of the twin, a seed, API writes. Out: objects and watches for `servers.kubernetes`, calls of the
`PodRuntime` for physics, and plain views of pods and deployments for telemetry.

Why it is more than a set of controllers: they must act in one order, at moments of virtual time that depend on nothing but what
was written before. So no controller runs by itself. A write is noticed by the controllers it concerns, which put tasks on one
agenda (`work`), `CONTROLLER_SECONDS` later or whenever their own delays say; `due` tells the stand when the next task wants to run,
and `run_due` does all that is due by then. While the stand's time stands still the API may be read and written, and the written
objects wait for their controllers, as they would on a real cluster.

The stand moves the time: `run_due(now)` at each of the `due` moments and once when it has arrived anywhere, because API writes are
stamped with the last `now`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import ServiceConfiguration, TwinSettings
from otel_control_gym.stands.twin import manifests
from otel_control_gym.stands.twin.adoption import Adoption
from otel_control_gym.stands.twin.autoscaler import AutoscalerController
from otel_control_gym.stands.twin.chaos_controller import ChaosController
from otel_control_gym.stands.twin.chaos_daemon import NetworkDaemon
from otel_control_gym.stands.twin.controller import Context, Controller
from otel_control_gym.stands.twin.deployments import DeploymentController
from otel_control_gym.stands.twin.endpoints import EndpointController
from otel_control_gym.stands.twin.garbage_collection import GarbageCollector
from otel_control_gym.stands.twin.kubelet import Kubelet
from otel_control_gym.stands.twin.kubernetes_events import EventRecorder
from otel_control_gym.stands.twin.metrics_server import MetricsServer
from otel_control_gym.stands.twin.objects import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    NODE,
    POD,
    SERVICE,
    Object,
    condition,
    timestamp,
)
from otel_control_gym.stands.twin.quantities import pod_resources
from otel_control_gym.stands.twin.replica_sets import ReplicaSetController
from otel_control_gym.stands.twin.routes import RouteController
from otel_control_gym.stands.twin.runtime import PodResources, PodRuntime
from otel_control_gym.stands.twin.scheduler import NODE_NAME, Scheduler
from otel_control_gym.stands.twin.store import ObjectStore

__all__ = ("AutoscalerView", "ControlPlane", "DeploymentView", "PodView")

_RUNNING_SECONDS = (
    7200  #: how long before the start the application was installed; its events have expired by then (1 h)
)


class PodView(msgspec.Struct, frozen=True, kw_only=True):
    """What telemetry shows of a pod: identity, whereabouts and state."""

    uid: str
    name: str
    service: str
    deployment: str
    replica_set: str
    node: str  #: empty until it is scheduled
    ip: str  #: empty until its container runs
    started: bool  #: its container runs
    ready: bool
    terminating: bool
    restarts: int
    resources: PodResources


class DeploymentView(msgspec.Struct, frozen=True, kw_only=True):
    """What telemetry shows of a deployment."""

    name: str
    desired: int
    available: int


class AutoscalerView(msgspec.Struct, frozen=True, kw_only=True):
    """What telemetry shows of an autoscaler."""

    name: str
    current: int
    desired: int
    least: int
    most: int


class ControlPlane:
    """The twin's cluster, one namespace with the application in it.

    Args:
        services: the application; each of its services is a Deployment and a Service.
        settings: delays of scheduler, kubelet, endpoints and Chaos Mesh.
        seed: decides UIDs, names and the jitter of delays.
        start: the run's first moment [ns].
        runtime: the simulated machines.
    """

    def __init__(
        self, services: ServiceConfiguration, settings: TwinSettings, *, seed: int, start: int, runtime: PodRuntime
    ) -> None:
        self.store = ObjectStore(seed)
        self.services = services
        self.start = start
        self.context = Context(
            store=self.store,
            services=services,
            settings=settings,
            seed=seed,
            start=start,
            now=start - _RUNNING_SECONDS * SECOND,
            runtime=runtime,
        )
        self._kubelet = Kubelet(self.context)
        metrics = MetricsServer(self.context)
        controllers: tuple[Controller, ...] = (
            Adoption(self.context),  # first, so that an owner finds what it has adopted
            DeploymentController(self.context),
            ReplicaSetController(self.context),
            Scheduler(self.context),
            self._kubelet,
            EndpointController(self.context),
            GarbageCollector(self.context),
            ChaosController(self.context),
            NetworkDaemon(self.context),
            metrics,
            AutoscalerController(self.context, metrics),
            RouteController(self.context),
            EventRecorder(self.context),
        )
        self._controllers = {controller.name: controller for controller in controllers}
        for controller in controllers:
            self.store.listen(controller.observe)

    @property
    def now(self) -> int:
        """Return the time up to which `run_due` has come [ns]; API writes are stamped with it."""
        return self.context.now

    def renew_randomness(self, seed: int) -> None:
        """Draw delays, probes and choices among pods from `seed` from now on; UIDs and names go on as they were."""
        self.context.renew_randomness(seed)

    @property
    def namespace(self) -> str:
        """Return the application's namespace."""
        return self.services.namespace

    @property
    def resource_version(self) -> str:
        """Return the newest resourceVersion."""
        return str(self.store.version)

    def install(self) -> None:
        """Install the application as of two hours before the start, and live through them.

        Returns at `start`, with every pod ready and nothing due that was caused by the installation. The runtime has been told
        of the pods by then (`start_container`, `set_endpoint`), all at its own present moment: it should take them for long running.
        """
        for kind, item in manifests.cluster(self.services):
            self.store.create(kind, item, self.now)
        self.store.create(NODE, manifests.node(NODE_NAME, self.context.settings, timestamp(self.now)), self.now)
        for name, service in self.services.services.items():
            if service.listens:
                self.store.create(SERVICE, manifests.service(self.services, name, service), self.now)
            self.store.create(DEPLOYMENT, manifests.deployment(self.services, name, service), self.now)
        self.run_due(self.start)

    def due(self) -> int | None:
        """Return the next moment at which a controller wants to act [ns], or None."""
        return self.context.queue.due()

    def run_due(self, now: int) -> None:
        """Do everything that is due up to `now`, each task at its own time and in order, and let `now` be the time."""
        queue = self.context.queue
        self._hear_exits()
        while (due := queue.due()) is not None and due <= now:
            taken = queue.take()
            assert taken is not None
            self.context.now = max(self.context.now, due)
            task = taken[1]
            self._controllers[task.controller].reconcile(task.step, task.key)
            self._hear_exits()
        self.context.now = max(self.context.now, now)

    def _hear_exits(self) -> None:
        for ended in self.context.runtime.take_exits():
            self._kubelet.note_exit(ended)

    def bookmark(self) -> None:
        """Let every watch that asked for bookmarks know of the newest resourceVersion."""
        self.store.bookmark()

    def pods(self) -> Iterator[PodView]:
        """Yield the pods that exist, terminating ones included, by name."""
        for pod in self.store.objects(POD, self.namespace):
            yield self._pod_view(pod)

    def deployments(self) -> Iterator[DeploymentView]:
        """Yield the deployments by name."""
        for item in self.store.objects(DEPLOYMENT, self.namespace):
            yield DeploymentView(
                name=item["metadata"]["name"],
                desired=item["spec"]["replicas"],
                available=item.get("status", {}).get("availableReplicas", 0),
            )

    def autoscalers(self) -> Iterator[AutoscalerView]:
        """Yield the autoscalers by name."""
        for item in self.store.objects(HORIZONTAL_POD_AUTOSCALER, self.namespace):
            yield AutoscalerView(
                name=item["metadata"]["name"],
                current=item["status"].get("currentReplicas", 0),
                desired=item["status"].get("desiredReplicas", 0),
                least=item["spec"]["minReplicas"],
                most=item["spec"]["maxReplicas"],
            )

    def _pod_view(self, pod: Object) -> PodView:
        metadata, status = pod["metadata"], pod.get("status", {})
        ready = condition(pod, "Ready")
        containers = status.get("containerStatuses", ())
        owners = metadata.get("ownerReferences", ())
        replica_set = owners[0]["name"] if owners else ""
        return PodView(
            uid=metadata["uid"],
            name=metadata["name"],
            service=metadata.get("labels", {}).get(manifests.NAME_LABEL, ""),
            deployment=replica_set.rpartition("-")[0],
            replica_set=replica_set,
            node=pod["spec"].get("nodeName", ""),
            ip=status.get("podIP", ""),
            started=any("running" in container["state"] for container in containers),
            ready=ready is not None and ready["status"] == "True",
            terminating="deletionTimestamp" in metadata,
            restarts=sum(container["restartCount"] for container in containers),
            resources=pod_resources(pod["spec"]),
        )
