"""The HorizontalPodAutoscaler controller: a Deployment's size follows what its pods use.

In: autoscalers, their Deployments and pods, the metrics server's measurements. Out: writes to the Deployments' scale, status with
conditions, events.

Every 15 seconds each autoscaler is looked at, first 15 seconds after it was made, whatever happens in between: an edit waits for the next
look. What a metric asks for is in `autoscaler_metrics`, what becomes of it in `autoscaler_limits`; the past that the limits need lives in
this controller, by the autoscaler, and is lost with it. A size that somebody else set is brought back at the next look.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.api import Api
from otel_control_gym.stands.twin.api_bodies import scale_of
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.autoscaler_limits import Past, normalize
from otel_control_gym.stands.twin.autoscaler_metrics import Measured, MetricError, measure, tolerance_of
from otel_control_gym.stands.twin.controller import Context, split_key
from otel_control_gym.stands.twin.kubernetes_events import record
from otel_control_gym.stands.twin.metrics_server import MetricsServer
from otel_control_gym.stands.twin.objects import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    POD,
    Object,
    set_condition,
    timestamp,
)
from otel_control_gym.stands.twin.watches import Change

__all__ = ("SYNC_SECONDS", "AutoscalerController")

SYNC_SECONDS = 15
_MEMORY_SECONDS = 3600  #: how far back the past is kept: the longest window that a behavior may name


class _Memory(msgspec.Struct):
    """What is remembered for one autoscaler: (time [ns], number)."""

    recommendations: list[tuple[int, int]] = msgspec.field(default_factory=list)
    ups: list[tuple[int, int]] = msgspec.field(default_factory=list)
    downs: list[tuple[int, int]] = msgspec.field(default_factory=list)


class _Failure(Exception):
    """Raised when no size can be computed."""


class AutoscalerController:
    """Scales Deployments."""

    name = "horizontal-pod-autoscaler"

    def __init__(self, context: Context, metrics: MetricsServer) -> None:
        self._context = context
        self._metrics = metrics
        self._memory: dict[str, _Memory] = {}  # by the autoscaler's UID

    def observe(self, change: Change) -> None:
        """Plan the first look at a new autoscaler; forget one that is gone."""
        if change.kind is not HORIZONTAL_POD_AUTOSCALER:
            return
        uid = change.object["metadata"]["uid"]
        if change.type == "ADDED":
            self._memory[uid] = _Memory()
            self._context.soon(self.name, change.object, step=uid, after=SYNC_SECONDS)
        elif change.type == "DELETED":
            self._memory.pop(uid, None)

    def reconcile(self, step: str, key: str) -> None:
        """Look at an autoscaler (its UID is the step), and plan the next look."""
        item = self._context.store.get(HORIZONTAL_POD_AUTOSCALER, *split_key(key))
        if item is None or item["metadata"]["uid"] != step:
            return
        self._context.soon(self.name, item, step=step, after=SYNC_SECONDS)
        draft = self._context.store.draft(HORIZONTAL_POD_AUTOSCALER, *split_key(key))
        self._look(draft)
        self._context.store.update(HORIZONTAL_POD_AUTOSCALER, draft)

    def _look(self, draft: Object) -> None:
        """Judge, scale, and write the status into the draft."""
        spec, status = draft["spec"], draft.setdefault("status", {})
        try:
            deployment = self._target(draft)
        except _Failure as error:
            message = f"the HPA controller was unable to get the target's current scale: {error}"
            self._say(draft, "AbleToScale", "False", "FailedGetScale", message)
            self._tell(draft, "FailedGetScale", str(error), warning=True)
            return
        message = "the HPA controller was able to get the target's current scale"
        self._say(draft, "AbleToScale", "True", "SucceededGetScale", message)
        current, least, most = int(deployment["spec"]["replicas"]), int(spec["minReplicas"]), int(spec["maxReplicas"])
        status["currentReplicas"] = int(deployment.get("status", {}).get("replicas", 0))
        desired, reason = current, ""
        if current == 0:
            message = "scaling is disabled since the replica count of the target is zero"
            self._say(draft, "ScalingActive", "False", "ScalingDisabled", message)
            status["desiredReplicas"] = 0
            return
        if current > most:
            desired, reason = most, "Current number of replicas above Spec.MaxReplicas"
        elif current < least:
            desired, reason = least, "Current number of replicas below Spec.MinReplicas"
        else:
            try:
                desired, reason = self._propose(draft, deployment, current)
            except _Failure as error:
                self._tell(draft, "FailedComputeMetricsReplicas", str(error), warning=True)
                return
        if desired != current:
            desired = self._rescale(draft, deployment, current, desired, reason)
        status["desiredReplicas"] = desired

    def _target(self, item: Object) -> Object:
        """Return the Deployment that an autoscaler scales."""
        reference, namespace = item["spec"]["scaleTargetRef"], item["metadata"]["namespace"]
        group, _, _ = reference["apiVersion"].rpartition("/")
        if (group, reference["kind"]) != (DEPLOYMENT.group, DEPLOYMENT.kind):
            raise _Failure(f'no matches for kind "{reference["kind"]}" in group "{group}"')
        deployment = self._context.store.get(DEPLOYMENT, namespace, reference["name"])
        if deployment is None:
            raise _Failure(f'deployments/scale.apps "{reference["name"]}" not found')
        return deployment

    def _propose(self, draft: Object, deployment: Object, current: int) -> tuple[int, str]:
        """Return the size that the metrics, the past and the spec lead to, and why it is another one."""
        spec, now, memory = draft["spec"], self._context.now, self._memory[draft["metadata"]["uid"]]
        pods = self._pods(draft, deployment)
        measured: list[Measured] = []
        failures: list[MetricError] = []
        for source in spec["metrics"]:
            try:
                measured.append(
                    measure(source, pods, self._metrics, current=current, now=now, tolerance=tolerance_of(spec))
                )
            except MetricError as error:
                failures.append(error)
                self._tell(draft, error.reason, str(error), warning=True)
        best = max(measured, key=lambda item: item.replicas) if measured else None
        if best is None or (failures and best.replicas < current):
            message = f"the HPA was unable to compute the replica count: {failures[0]}"
            self._say(draft, "ScalingActive", "False", failures[0].reason, message)
            count = f"{len(failures)} invalid out of {len(spec['metrics'])}"
            raise _Failure(f"invalid metrics ({count}), first error is: {failures[0]}")
        message = f"the HPA was able to successfully calculate a replica count from {best.name}"
        self._say(draft, "ScalingActive", "True", "ValidMetricFound", message)
        draft["status"]["currentMetrics"] = [item.status for item in measured]
        past = Past(recommendations=memory.recommendations, ups=memory.ups, downs=memory.downs)
        verdict = normalize(spec, best.replicas, current=current, now=now, past=past)
        memory.recommendations.append((now, best.replicas))
        self._forget(memory)
        self._say(draft, "AbleToScale", "True", *verdict.stabilization)
        self._say(draft, "ScalingLimited", "True" if verdict.limited else "False", *verdict.limit)
        why = "All metrics below target" if best.replicas < current else ""
        return verdict.replicas, f"{best.name} above target" if best.replicas > current else why

    def _pods(self, item: Object, deployment: Object) -> list[Object]:
        """Return the pods that the Deployment's selector matches, whoever made them; one autoscaler alone may act on them."""
        store, namespace = self._context.store, item["metadata"]["namespace"]
        reference = item["spec"]["scaleTargetRef"]["name"]
        rivals = [
            f"{namespace}/{other['metadata']['name']}"
            for other in store.objects(HORIZONTAL_POD_AUTOSCALER, namespace)
            if other["spec"]["scaleTargetRef"]["name"] == reference
        ]
        selector = deployment["spec"]["selector"]["matchLabels"]
        if len(rivals) > 1:
            text = scale_of(deployment)["status"]["selector"]
            message = f"pods by selector {text} are controlled by multiple HPAs: [{' '.join(rivals)}]"
            self._tell(item, "AmbiguousSelector", message, warning=True)
            self._say(item, "ScalingActive", "False", "AmbiguousSelector", f"the HPA controller found {message}")
            raise _Failure(message)
        return [
            pod
            for pod in store.objects(POD, namespace)
            if selector.items() <= pod["metadata"].get("labels", {}).items()
        ]

    def _rescale(self, draft: Object, deployment: Object, current: int, desired: int, reason: str) -> int:
        """Write the new size, and return the size that holds now."""
        metadata, memory = deployment["metadata"], self._memory[draft["metadata"]["uid"]]
        scale = scale_of(deployment) | {"spec": {"replicas": desired}}
        try:
            Api(self._context, manager="kube-controller-manager").write_scale(
                metadata["namespace"], metadata["name"], scale
            )
        except ApiError as error:
            self._tell(draft, "FailedRescale", f"New size: {desired}; reason: {reason}; error: {error}", warning=True)
            message = f"the HPA controller was unable to update the target scale: {error}"
            self._say(draft, "AbleToScale", "False", "FailedUpdateScale", message)
            return current
        message = f"the HPA controller was able to update the target scale to {desired}"
        self._say(draft, "AbleToScale", "True", "SucceededRescale", message)
        self._tell(draft, "SuccessfulRescale", f"New size: {desired}; reason: {reason}")
        draft["status"]["lastScaleTime"] = timestamp(self._context.now)
        changes = memory.ups if desired > current else memory.downs
        changes.append((self._context.now, abs(desired - current)))
        return desired

    def _forget(self, memory: _Memory) -> None:
        oldest = self._context.now - _MEMORY_SECONDS * SECOND
        for entries in (memory.recommendations, memory.ups, memory.downs):
            entries[:] = [entry for entry in entries if entry[0] > oldest]

    def _say(self, draft: Object, name: str, status: str, reason: str, message: str) -> None:
        set_condition(draft, name, status=status, now=self._context.now, reason=reason, message=message)

    def _tell(self, item: Object, reason: str, message: str, *, warning: bool = False) -> None:
        record(
            self._context,
            HORIZONTAL_POD_AUTOSCALER,
            item,
            reason,
            message,
            component=self.name,
            type="Warning" if warning else "Normal",
        )
