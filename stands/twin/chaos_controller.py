"""Chaos Mesh's controller: the life of a chaos object, from finalizer to recovery.

In: chaos objects. Out: their status (desired phase, conditions, records), events, and through their `Effect`s what happens to pods.

One pass does, in this order: finalizer, desired phase, conditions, records, finalizer's end. So conditions tell of the records that the
pass found, not of those it leaves: they lag by one pass, as clients of the real thing have to know. Targets are chosen once, when
records are first written. Injection takes `chaos_seconds`, after which a step of its own moves the records; the write that this makes
is what the next pass is for.

A duration counts from creationTimestamp, whatever happened since. After it the object stays, recovered; deletion recovers first and
lets the object go when no record is left injected.
"""

from __future__ import annotations

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.chaos_effects import Effect, FailedEffect
from otel_control_gym.stands.twin.chaos_network import NetworkEffect
from otel_control_gym.stands.twin.chaos_pods import PodEffect, is_one_shot
from otel_control_gym.stands.twin.chaos_quantities import go_duration
from otel_control_gym.stands.twin.chaos_stress import StressEffect
from otel_control_gym.stands.twin.chaos_targets import UnknownNode, choose
from otel_control_gym.stands.twin.controller import Context, split_key
from otel_control_gym.stands.twin.deletion import release
from otel_control_gym.stands.twin.kubernetes_events import record
from otel_control_gym.stands.twin.objects import (
    NETWORK_CHAOS,
    NODE,
    POD,
    POD_CHAOS,
    POD_NETWORK_CHAOS,
    STRESS_CHAOS,
    Kind,
    Object,
    moment,
    timestamp,
)
from otel_control_gym.stands.twin.watches import Change

__all__ = ("ChaosController",)

_FINALIZER = "chaos-mesh/records"
_PAUSE = "experiment.chaos-mesh.org/pause"
_FORCE = "chaos-mesh.chaos-mesh.org/cleanFinalizer"
_RETRY_SECONDS = 0.005  #: the back-off's first step; doubles
_RETRY_LIMIT_SECONDS = 1000.0
_RECORD_EVENTS = 100


class ChaosController:
    """Reconciles chaos objects."""

    name = "chaos-controller-manager"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._effects: dict[Kind, Effect] = {
            STRESS_CHAOS: StressEffect(context),
            NETWORK_CHAOS: NetworkEffect(context),
            POD_CHAOS: PodEffect(context),
        }
        self._kinds = {kind.kind: kind for kind in self._effects}
        self._failures: dict[str, int] = {}  # UID of a chaos object -> attempts that failed in a row

    def observe(self, change: Change) -> None:
        """Queue a chaos object that changed, and the objects that wait for rules when some were applied."""
        if change.kind in self._effects:
            if change.type == "DELETED":
                self._failures.pop(change.object["metadata"]["uid"], None)
            else:
                self._context.soon(self.name, change.object, step=f"pass {change.kind.kind}")
        elif change.kind is POD_NETWORK_CHAOS:
            for chaos in self._context.store.objects(NETWORK_CHAOS):
                if _waits(chaos):
                    self._context.soon(self.name, chaos, step=f"records {NETWORK_CHAOS.kind}")

    def reconcile(self, step: str, key: str) -> None:
        """Do a pass over a chaos object, or move its records."""
        action, _, name = step.partition(" ")
        kind = self._kinds[name]
        chaos = self._context.store.get(kind, *split_key(key))
        if chaos is None:
            return
        if action == "pass":
            self._pass(kind, chaos)
        else:
            self._move_records(kind, chaos)

    def _pass(self, kind: Kind, chaos: Object) -> None:
        draft = self._context.store.draft(kind, chaos["metadata"]["namespace"], chaos["metadata"]["name"])
        metadata = draft["metadata"]
        deleted = "deletionTimestamp" in metadata
        if not deleted and _FINALIZER not in metadata.get("finalizers", ()):
            metadata.setdefault("finalizers", []).append(_FINALIZER)
            self._tell(kind, chaos, "FinalizerInited", "Finalizer has been inited", component="initFinalizers")
        experiment = draft.setdefault("status", {}).setdefault("experiment", {})
        self._decide(kind, chaos, experiment)
        records = experiment.get("containerRecords", [])
        draft["status"]["conditions"] = _conditions(chaos, records)
        recovered = all(item["phase"] == "Not Injected" for item in records)
        forced = metadata.get("annotations", {}).get(_FORCE) == "forced"
        if deleted and (recovered or forced):
            self._tell(kind, chaos, "FinalizerInited", "Finalizer has been removed", component="initFinalizers")
            metadata["finalizers"] = []
            release(self._context, kind, draft)
            return
        stored = self._context.update(kind, draft)
        if not records:
            self._select(kind, stored)
        elif any(_unsettled(item, experiment["desiredPhase"]) for item in records):
            self._plan_move(kind, stored)

    def _decide(self, kind: Kind, chaos: Object, experiment: Object) -> None:
        """Set the desired phase, and plan the moment at which the duration is over."""
        reason, message = self._wanted(kind, chaos)
        phase = "Run" if reason == "Started" else "Stop"
        if experiment.get("desiredPhase") != phase:
            experiment["desiredPhase"] = phase
            if not is_one_shot(chaos) or reason != "Started":
                self._tell(kind, chaos, reason, message, component="desiredphase")
            self._tell_updated(kind, chaos, "desiredPhase", component="desiredphase")

    def _wanted(self, kind: Kind, chaos: Object) -> tuple[str, str]:
        metadata = chaos["metadata"]
        if "deletionTimestamp" in metadata:
            return "Deleted", "Experiment has been deleted"
        if is_one_shot(chaos):
            return "Started", "Experiment has started"
        length = go_duration(chaos["spec"].get("duration"))
        if length is not None:
            end = moment(metadata["creationTimestamp"]) + length
            if end <= self._context.now:
                return "TimeUp", "Time up according to the duration"
            self._context.at(end, self.name, f"{metadata['namespace']}/{metadata['name']}", f"pass {kind.kind}")
        if metadata.get("annotations", {}).get(_PAUSE) == "true":
            return "Paused", "Experiment has been paused"
        return "Started", "Experiment has started"

    def _select(self, kind: Kind, chaos: Object) -> None:
        """Choose the targets and write their records; nothing to choose is an event, and is tried again at the next pass."""
        records: list[Object] = []
        spec = chaos["spec"]
        keys = {".": spec} | ({".Target": spec["target"]} if spec.get("target") else {})
        pods = self._context.store.objects(POD)
        nodes = {
            node["metadata"]["name"]: node["metadata"].get("labels", {}) for node in self._context.store.objects(NODE)
        }
        for key, selection in keys.items():
            entity = f"{chaos['metadata']['name']}/{key}"
            try:
                chosen = choose(selection, pods, nodes, seed=self._context.seed, entity=entity)
            except UnknownNode as error:
                self._tell(kind, chaos, "Failed", f"Failed to select targets: {error}", component="records")
                return
            identities = [name for pod in chosen for name in self._effects[kind].identities(chaos, pod)]
            if not identities:
                problem = "no target has been selected" if chosen else "no pod is selected"
                self._tell(kind, chaos, "Failed", f"Failed to select targets: {problem}", component="records")
                return
            records += [{"id": name, "selectorKey": key, "phase": "Not Injected"} for name in identities]
        for item in records:
            item |= {"injectedCount": 0, "recoveredCount": 0, "events": []}
        draft = self._context.store.draft(kind, chaos["metadata"]["namespace"], chaos["metadata"]["name"])
        draft["status"]["experiment"]["containerRecords"] = records
        stored = self._context.update(kind, draft)
        self._tell_updated(kind, stored, "records", component="records")

    def _plan_move(self, kind: Kind, chaos: Object) -> None:
        failures = self._failures.get(chaos["metadata"]["uid"], 0)
        if failures:
            after = min(_RETRY_SECONDS * 2 ** (failures - 1), _RETRY_LIMIT_SECONDS)
        else:
            after = self._context.delay(self._context.settings.chaos_seconds, "chaos", chaos["metadata"]["name"])
        self._context.soon(self.name, chaos, step=f"records {kind.kind}", after=after)

    def _move_records(self, kind: Kind, chaos: Object) -> None:
        """Take each record one step nearer to the desired phase."""
        draft = self._context.store.draft(kind, chaos["metadata"]["namespace"], chaos["metadata"]["name"])
        experiment = draft["status"]["experiment"]
        failed = False
        for item in experiment.get("containerRecords", ()):
            before = item["phase"]
            if not _unsettled(item, experiment["desiredPhase"]):
                continue
            applies = before.startswith("Not Injected")
            try:
                phase = self._effects[kind].move(draft, item, apply=applies)
            except FailedEffect as error:
                failed = True
                _note(item, "Failed", "Apply" if applies else "Recover", self._context.now, str(error))
                activity = "apply chaos" if applies else "recover chaos"
                self._tell(kind, chaos, "Failed", f"Failed to {activity}: {error}", component="records")
                continue
            item["phase"] = phase
            if phase in ("Injected", "Not Injected"):
                self._note_success(kind, chaos, item, applied=phase == "Injected")
        uid = chaos["metadata"]["uid"]
        self._failures[uid] = self._failures.get(uid, 0) + 1 if failed else 0
        stored = self._context.update(kind, draft)
        if stored is not chaos:
            self._tell_updated(kind, stored, "records", component="records")

    def _note_success(self, kind: Kind, chaos: Object, item: Object, *, applied: bool) -> None:
        item["injectedCount" if applied else "recoveredCount"] += 1
        _note(item, "Succeeded", "Apply" if applied else "Recover", self._context.now)
        reason, verb = ("Applied", "apply chaos for") if applied else ("Recovered", "recover chaos for")
        self._tell(kind, chaos, reason, f"Successfully {verb} {item['id']}", component="records")

    def _tell_updated(self, kind: Kind, chaos: Object, field: str, *, component: str) -> None:
        self._tell(kind, chaos, "Updated", f"Successfully update {field} of resource", component=component)

    def _tell(self, kind: Kind, chaos: Object, reason: str, message: str, *, component: str) -> None:
        type_ = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in reason).lstrip("-")
        record(
            self._context,
            kind,
            chaos,
            reason,
            message,
            component=component,
            type="Warning" if reason == "Failed" else "Normal",
            annotations={"chaos-mesh.org/type": type_},
        )


def _conditions(chaos: Object, records: list[Object]) -> list[Object]:
    paused = chaos["metadata"].get("annotations", {}).get(_PAUSE) == "true"
    facts = {
        "Selected": bool(records),
        "AllInjected": bool(records) and all(item["phase"] == "Injected" for item in records),
        "AllRecovered": bool(records) and all(item["phase"] == "Not Injected" for item in records),
        "Paused": paused,
    }
    return [{"type": name, "status": "True" if fact else "False", "reason": ""} for name, fact in facts.items()]


def _unsettled(item: Object, desired: str) -> bool:
    """Return whether a record isn't where the desired phase wants it."""
    return bool(item["phase"] != ("Injected" if desired == "Run" else "Not Injected"))


def _waits(chaos: Object) -> bool:
    records = chaos.get("status", {}).get("experiment", {}).get("containerRecords", ())
    return any(item["phase"].endswith("/Wait") for item in records)


def _note(item: Object, outcome: str, operation: str, now: int, message: str = "") -> None:
    event = {"type": outcome, "operation": operation, "timestamp": timestamp(now - now % SECOND)}
    item["events"] = [*item["events"], event | ({"message": message} if message else {})][-_RECORD_EVENTS:]
