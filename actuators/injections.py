"""Evidence that a fault is in its targets, as pure functions of what was read.

The traps these rules answer: AllInjected without a single injection; conditions that lag the records by one pass; network rules that
were accepted but sit in no pod; pods that were replaced after they were targeted; a kill that is believed only when the victim is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from otel_control_gym.actuators.chaos_objects import Chaos, ChaosRecord, PodNetworkChaos
from otel_control_gym.actuators.moments import newest
from otel_control_gym.actuators.objects import Pod
from otel_control_gym.actuators.postchecks import Target
from otel_control_gym.actuators.procedure import Check

__all__ = (
    "check_injection",
    "check_nobody",
    "holding",
    "missing_rules",
    "missing_stressors",
    "not_killed",
    "not_restarted",
    "replaced",
)


def replaced(targets: Sequence[Target], pods: Iterable[Pod], *, by_container: bool) -> tuple[str, ...]:
    """Return the targets that aren't what they were: gone, of another UID, or (stress) with a restarted container."""
    present = {pod.metadata.name: pod for pod in pods}
    lost = []
    for target in targets:
        pod = present.get(target.pod)
        same = pod is not None and pod.metadata.uid == target.uid
        if not same or (by_container and pod is not None and pod.restarts != target.restarts):
            lost.append(target.pod)
    return tuple(lost)


def missing_stressors(
    chaos: Chaos, *, namespace: str, container: str, targets: Sequence[Target], memory: bool = False
) -> tuple[str, ...]:
    """Return the targets for which a StressChaos names no stressor of the kind (CPU or memory)."""
    instances = chaos.status.instances or {}
    names = [(target.pod, instances.get(f"{namespace}/{target.pod}/{container}")) for target in targets]
    return tuple(
        pod
        for pod, item in names
        if item is None or isinstance(item, int) or not (item.memory_uid if memory else item.uid)
    )


def missing_rules(rules: Iterable[PodNetworkChaos], *, source: str, targets: Sequence[Target]) -> tuple[str, ...]:
    """Return the targets whose pod has no observed, faultless traffic rule of the NetworkChaos `source`."""
    sound = {
        item.metadata.name
        for item in rules
        if source in item.spec.sources
        and item.status.observed_generation >= item.metadata.generation
        and not item.status.failed_message
    }
    return tuple(target.pod for target in targets if target.pod not in sound)


def check_injection(
    chaos: Chaos,
    *,
    record_ids: Sequence[str],
    lost: Sequence[str],
    affected: Sequence[Target],
    without_effect: Sequence[str],
) -> Check:
    """Judge an injection.

    `record_ids` are the records that there must be; `lost` the targets that were replaced since; `affected` the targets at which the
    mechanism itself (stressor, traffic rule) must be seen, `without_effect` those of them at which it isn't.
    """
    records = {record.id: record for record in chaos.status.experiment.container_records or ()}
    injected = [key for key in record_ids if key in records and _holds(records[key])]
    messages = [record.events[-1].message for record in records.values() if record.events and record.events[-1].message]
    evidence: dict[str, Any] = {
        "records": len(records),
        "records_expected": len(record_ids),
        "records_injected": len(injected),
        "all_injected": chaos.status.holds("AllInjected"),
        "targets_replaced": list(lost),
        "targets_without_effect": list(without_effect),
    }
    if messages:
        evidence["message"] = messages[-1]
    complete = len(injected) == len(record_ids) == len(records) and chaos.status.holds("AllInjected")
    if complete and not lost and not without_effect:
        return Check(seen="all", evidence=evidence, moment=newest(_applied_at(record) for record in records.values()))
    somewhere = bool(injected) and len(without_effect) < len(affected)
    return Check(seen="some" if somewhere else "none", evidence=evidence)


def _holds(record: ChaosRecord) -> bool:
    return record.injected_count >= 1 and record.phase == "Injected"


def _applied_at(record: ChaosRecord) -> str:
    """Return when a record's target was injected, or an empty text."""
    applied = [event.timestamp for event in record.events if (event.type, event.operation) == ("Succeeded", "Apply")]
    return applied[-1] if applied else ""


def holding(chaos: Chaos) -> tuple[str, ...]:
    """Return the pods in which a chaos object says to be injected now; a pause, or the end of its duration, takes it out."""
    records = chaos.status.experiment.container_records or ()
    return tuple(dict.fromkeys(record.id.split("/")[1] for record in records if _holds(record)))


def check_nobody(chaos: Chaos) -> Check:
    """Judge an object of strength zero that selects nobody: it is there, and has no target."""
    records = len(chaos.status.experiment.container_records or ())
    evidence = {"records": records, "records_expected": 0}
    return Check(seen="none" if records else "all", evidence=evidence)


def not_killed(targets: Sequence[Target], pods: Iterable[Pod]) -> tuple[str, ...]:
    """Return the targets that are still there, and not on their way out."""
    alive = {pod.metadata.uid for pod in pods if pod.metadata.deletion_timestamp is None}
    return tuple(target.pod for target in targets if target.uid in alive)


def not_restarted(targets: Sequence[Target], pods: Iterable[Pod]) -> tuple[str, ...]:
    """Return the targets whose containers haven't restarted since they were targeted; a pod that is gone has."""
    present = {pod.metadata.uid: pod for pod in pods}
    return tuple(
        target.pod for target in targets if target.uid in present and present[target.uid].restarts <= target.restarts
    )
