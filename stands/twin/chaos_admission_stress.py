"""Chaos Mesh's webhook for StressChaos.

In: the spec of a StressChaos. Out: nothing, or an `ApiError`.

Accepted is what the simulated machines can do: CPU workers with a load, memory that is filled at once or linearly. stress-ng's and
memStress' other flags, and shares of memory (programs differ in what the whole is), are denied with that reason.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.chaos_quantities import memory_bytes, ramp_seconds
from otel_control_gym.stands.twin.chaos_refusals import check_fields, check_integer, check_type, denied, unmodelled
from otel_control_gym.stands.twin.objects import STRESS_CHAOS, Object

__all__ = ("admit_stress",)

_MAX_WORKERS = 8192
_STRESSORS = {"cpu": ("workers", "load", "options"), "memory": ("workers", "size", "oomScoreAdj", "options")}


def admit_stress(name: str, spec: Object) -> None:
    """Check the stressors.

    Raises: ApiError: the schema or the webhook refuses them.
    """
    stressors = spec.get("stressors") or {}
    if spec.get("stressngStressors"):
        raise unmodelled(STRESS_CHAOS, name, "stressngStressors")
    if not stressors:
        raise denied(STRESS_CHAOS, name, "Spec.Stressors", stressors, "missing stressors")
    check_type(STRESS_CHAOS, name, "spec.stressors", stressors, dict)
    check_fields("spec.stressors", stressors, _STRESSORS)
    for part, stressor in stressors.items():
        where = f"spec.stressors.{part}"
        check_type(STRESS_CHAOS, name, where, stressor, dict)
        check_fields(where, stressor, _STRESSORS[part])
        check_integer(STRESS_CHAOS, name, f"{where}.workers", stressor.get("workers"), 0, _MAX_WORKERS)
    if "cpu" in stressors:
        _admit_cpu(name, stressors["cpu"])
    if "memory" in stressors:
        _admit_memory(name, stressors["memory"])


def _admit_cpu(name: str, cpu: Object) -> None:
    if cpu.get("options"):
        raise unmodelled(STRESS_CHAOS, name, "options of stress-ng")
    check_integer(STRESS_CHAOS, name, "spec.stressors.cpu.load", cpu.get("load", 100), 0, 100)


def _admit_memory(name: str, memory: Object) -> None:
    size, score = memory.get("size", ""), memory.get("oomScoreAdj", 0)
    check_integer(STRESS_CHAOS, name, "spec.stressors.memory.oomScoreAdj", score, -1000, 1000)
    if score == -1000:
        raise unmodelled(STRESS_CHAOS, name, "stressors that the kernel spares (oomScoreAdj -1000)")
    if isinstance(size, str) and size.endswith("%"):
        raise unmodelled(STRESS_CHAOS, name, "shares of memory: programs differ in what the whole is, name bytes")
    if memory_bytes(size) is None:
        raise denied(STRESS_CHAOS, name, "Spec.Stressors.MemoryStressor.Size", size, "incorrect bytes format")
    if ramp_seconds(memory.get("options")) is None:
        raise unmodelled(STRESS_CHAOS, name, "memStress options other than --time")
