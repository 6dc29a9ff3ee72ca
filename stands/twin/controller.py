"""What all controllers of the twin's cluster share: the store, the agenda, the time, and how they draw their delays.

In: the parts that `control_plane` puts together. Out: `Context`, given to every controller, and the `Controller` protocol.
"""

from __future__ import annotations

from typing import Protocol

from otel_control_gym.engine.clock import seconds
from otel_control_gym.engine.randomness import derive_seed, draw_uniform
from otel_control_gym.engine.settings import ServiceConfiguration, TwinSettings
from otel_control_gym.stands.twin.objects import REPLICA_SET, Kind, Object
from otel_control_gym.stands.twin.runtime import NetworkRule, PodRuntime
from otel_control_gym.stands.twin.store import ObjectStore
from otel_control_gym.stands.twin.watches import Change
from otel_control_gym.stands.twin.work import Task, WorkQueue

__all__ = ("CONTROLLER_SECONDS", "Context", "Controller", "deployment_of", "split_key", "workload_of")

CONTROLLER_SECONDS = 0.01  #: a write -> the controllers that watch it have noticed
_JITTER = 0.2  #: a delay d takes d × (1 ± this)


class Controller(Protocol):
    """A control loop: notices changes, puts tasks on the agenda, brings objects nearer to what is wanted."""

    name: str

    def observe(self, change: Change) -> None:
        """Queue what this change calls for; acts on nothing itself."""
        ...

    def reconcile(self, step: str, key: str) -> None:
        """Look at an object (key: `namespace/name`) at the context's `now`, and act."""
        ...


class Context:
    """The controllers' common ground."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        services: ServiceConfiguration,
        settings: TwinSettings,
        seed: int,
        start: int,
        now: int,
        runtime: PodRuntime,
    ) -> None:
        self.store = store
        self.services = services
        self.settings = settings
        self.start = start  #: the run's first moment [ns]; before it nobody acts on the cluster
        self.now = now
        self.runtime = runtime
        self.queue = WorkQueue()
        self.events: dict[tuple[str, str, str, str], str] = {}  #: (UID, reason, message, component) -> the Event's name
        self.probe_paths: dict[str, tuple[NetworkRule, ...]] = {}  #: UID of a pod -> rules that probes of it meet, too
        self.machine_seed = (
            seed  #: of what a machine is like; unlike `seed`, the same from the first moment to the last
        )
        self.renew_randomness(seed)
        self._entities: dict[str, str] = {}  # a pod's UID -> `workload/ordinal`
        self._made: dict[str, int] = {}  # workload -> pods seen so far

    def renew_randomness(self, seed: int) -> None:
        """Draw from `seed` from now on."""
        self.seed = seed
        self._delay_seed = derive_seed(seed, "kubernetes.delay")

    def soon(self, controller: str, item: Object, step: str = "", after: float = CONTROLLER_SECONDS) -> None:
        """Queue a task about an object, `after` seconds from now."""
        metadata = item["metadata"]
        self.at(self.now + seconds(after), controller, f"{metadata.get('namespace', '')}/{metadata['name']}", step)

    def at(self, due: int, controller: str, key: str, step: str = "") -> None:
        """Queue a task about the object of a key for a moment [ns]."""
        self.queue.add(due, Task(controller, step, key))

    def delay(self, mean: float, purpose: str, entity: str) -> float:
        """Return a delay [s] around `mean`, drawn for (purpose, entity) alone, so that other objects don't shift it."""
        return mean * (1 + _JITTER * (2 * draw_uniform(derive_seed(self._delay_seed, f"{purpose}/{entity}"), 0) - 1))

    def pod_delay(self, mean: float, purpose: str, pod: Object) -> float:
        """Return a pod's delay [s]."""
        return self.delay(mean, purpose, self.pod_entity(pod))

    def pod_entity(self, pod: Object) -> str:
        """Return whose draws a pod's are: "the n-th pod of its workload", which other workloads' actions don't shift."""
        uid = pod["metadata"]["uid"]
        if uid not in self._entities:
            workload = workload_of(pod)
            self._made[workload] = self._made.get(workload, 0) + 1
            self._entities[uid] = f"{workload}/{self._made[workload]}"
        return self._entities[uid]

    def update(self, kind: Kind, draft: Object) -> Object:
        """Store a draft of a controller's; a changed spec raises the generation (of chaos kinds a changed status, too)."""
        metadata = draft["metadata"]
        before = self.store.get(kind, metadata.get("namespace", ""), metadata["name"])
        counted = ("spec",) if kind.status else ("spec", "status")
        if kind.generation and before is not None and any(before.get(key) != draft.get(key) for key in counted):
            metadata["generation"] += 1
        return self.store.update(kind, draft)


def workload_of(pod: Object) -> str:
    """Return the service that a pod runs, by the demo's label."""
    return str(pod["metadata"].get("labels", {}).get("opentelemetry.io/name", ""))


def deployment_of(store: ObjectStore, pod: Object) -> str:
    """Return the name of the Deployment that a pod belongs to; empty: none."""
    for reference in pod["metadata"].get("ownerReferences", ()):
        owner = store.get(REPLICA_SET, pod["metadata"]["namespace"], reference["name"])
        for above in owner["metadata"].get("ownerReferences", ()) if owner is not None else ():
            return str(above["name"])
    return ""


def split_key(key: str) -> tuple[str, str]:
    """Return namespace and name of a task's key."""
    namespace, _, name = key.partition("/")
    return namespace, name
