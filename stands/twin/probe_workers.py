"""The kubelet's probe workers: they ask the containers, count the answers, and draw the consequences.

In: containers that began to run, rules that came between, the passing of time. Out: readiness in the pod's status, events, containers that
are to be restarted.

A worker need not ask a process of which nothing new can be heard: once a probe has succeeded, it goes on only while the answer may
change without the kubelet's knowing (a feature flag that makes the service say it isn't ready, packets that may be late or lost). When
it does go on, it asks at the moments at which it would have asked anyway. A startup probe holds the other two back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from otel_control_gym.engine.randomness import derive_seed, draw_uniform
from otel_control_gym.stands.twin.container_status import set_ready
from otel_control_gym.stands.twin.controller import Context, workload_of
from otel_control_gym.stands.twin.objects import POD, Object
from otel_control_gym.stands.twin.pod_events import tell_of_pod
from otel_control_gym.stands.twin.probes import Asked, failure, next_probe, timeout_share

__all__ = ("ProbeKind", "ProbeWorkers")

ProbeKind = Literal["startup", "readiness", "liveness"]
_NAMES: dict[ProbeKind, str] = {"startup": "startupProbe", "readiness": "readinessProbe", "liveness": "livenessProbe"}


class _Worker(msgspec.Struct):
    """One probe of one run of a container."""

    passed: bool = False  #: its last verdict
    successes: int = 0  #: in a row
    failures: int = 0


class _Run(msgspec.Struct):
    started: int  #: [ns]
    workers: dict[ProbeKind, _Worker]


class ProbeWorkers:
    """The probes of the node's containers.

    Args:
        context: the cluster.
        ask: who is at the other end of a pod's probes now.
        restart: ends a container that failed its probe: pod, which probe.
    """

    def __init__(
        self,
        context: Context,
        *,
        ask: Callable[[Object], Asked],
        restart: Callable[[Object, ProbeKind], None],
    ) -> None:
        self._context = context
        self._ask = ask
        self._restart = restart
        self._runs: dict[str, _Run] = {}  # by the pod's UID
        self._flagged = {effect.unready for flag in context.services.flags.values() for effect in flag.effects}

    def begin(self, pod: Object, started: int) -> None:
        """Begin with a container that has just started; without a readiness probe it is ready."""
        container = pod["spec"]["containers"][0]
        self._runs[pod["metadata"]["uid"]] = _Run(started, {})
        if "startupProbe" in container:
            self._let_work(pod, "startup")
        else:
            self._begin_others(pod)

    def resume(self, pod: Object) -> None:
        """Ask again: what comes between has changed."""
        run = self._runs.get(pod["metadata"]["uid"])
        if run is not None:
            for kind in run.workers:
                self._plan(pod, kind, self._context.now)

    def end(self, uid: str) -> None:
        """Stop asking: the container has ended or is about to."""
        self._runs.pop(uid, None)

    def probe(self, pod: Object, kind: ProbeKind) -> None:
        """Ask once, unless the run that was to be asked is over."""
        run = self._runs.get(pod["metadata"]["uid"])
        if run is None or kind not in run.workers:
            return
        worker, probe = run.workers[kind], pod["spec"]["containers"][0][_NAMES[kind]]
        problem = self._problem(pod, kind, probe)
        if problem:
            worker.successes, worker.failures = 0, worker.failures + 1
            message = f"{kind.capitalize()} probe failed: {problem}"
            tell_of_pod(self._context, pod, "Unhealthy", message, warning=True)
            if worker.failures >= int(probe.get("failureThreshold", 3)):
                if kind != "readiness":
                    self.end(pod["metadata"]["uid"])
                    self._restart(pod, kind)
                    return
                if worker.passed:
                    worker.passed = False
                    self._show(pod, ready=False)
        else:
            worker.successes, worker.failures = worker.successes + 1, 0
            if not worker.passed and worker.successes >= int(probe.get("successThreshold", 1)):
                worker.passed = True
                if kind == "startup":
                    del run.workers[kind]
                    self._show(pod, started=True)
                    self._begin_others(pod)
                    return
                if kind == "readiness":
                    self._show(pod, ready=True)
        if problem or not worker.passed:
            self._plan(pod, kind, self._context.now + 1)
        elif self._may_change(pod):
            # Nobody changes anything before the run begins: two hours of probes would hear the same.
            self._plan(pod, kind, max(self._context.now + 1, self._context.start))

    def _begin_others(self, pod: Object) -> None:
        container = pod["spec"]["containers"][0]
        if "livenessProbe" in container:
            self._let_work(pod, "liveness")
        if "readinessProbe" in container:
            self._let_work(pod, "readiness")
        else:
            self._show(pod, ready=True)

    def _let_work(self, pod: Object, kind: ProbeKind) -> None:
        """Start a worker: it asks at once, if the probe has no initial delay."""
        self._runs[pod["metadata"]["uid"]].workers[kind] = _Worker()
        if int(pod["spec"]["containers"][0][_NAMES[kind]].get("initialDelaySeconds", 0)) > 0:
            self._plan(pod, kind, self._context.now)
        else:
            self.probe(pod, kind)

    def _plan(self, pod: Object, kind: ProbeKind, earliest: int) -> None:
        metadata, run = pod["metadata"], self._runs[pod["metadata"]["uid"]]
        due = next_probe(pod["spec"]["containers"][0][_NAMES[kind]], run.started, earliest)
        key = f"{metadata['namespace']}/{metadata['name']}"
        self._context.at(due, "kubelet", key, f"{kind} {metadata['uid']}")

    def _problem(self, pod: Object, kind: ProbeKind, probe: Object) -> str:
        rules = self._context.probe_paths.get(pod["metadata"]["uid"], ())
        lost = timeout_share(probe, rules)
        if 0 < lost < 1:
            seed = derive_seed(self._context.seed, f"kubelet.probe/{kind}/{self._context.pod_entity(pod)}")
            lost = float(draw_uniform(seed, self._context.now) < lost)
        return failure(probe, pod["spec"]["containers"][0], self._ask(pod), timed_out=lost == 1)

    def _may_change(self, pod: Object) -> bool:
        """Return whether a probe that succeeded may fail without anything being told to the kubelet."""
        return workload_of(pod) in self._flagged or bool(self._context.probe_paths.get(pod["metadata"]["uid"]))

    def _show(self, pod: Object, *, ready: bool | None = None, started: bool = False) -> None:
        store = self._context.store
        draft = store.draft(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
        status = draft["status"]["containerStatuses"][0]
        if started:
            status["started"] = True
        if ready is not None:
            status["ready"] = ready
            set_ready(draft, ready, self._context.now)
        store.update(POD, draft)
