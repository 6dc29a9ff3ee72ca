"""Words for strength and duration ➜ numbers, from `configs/actions/`.

In: a type of action, a word, and what the configuration declares. Out: numbers.

What a strength is measured by (CPU limit, replicas, memory) is the *declared* value, not the one that the pods have at the moment: so two
branches of a run that differ in an earlier `set_resources` get the same fault, and the request can be logged before anything is read.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from otel_control_gym.actuators.interventions import Mechanism, Mistake
from otel_control_gym.actuators.parameters import DurationClass
from otel_control_gym.engine.settings import Flag, Intensity, Service

__all__ = (
    "DelayStrength",
    "Intensities",
    "cpu_strength",
    "duration_class",
    "duration_of",
    "intensities",
    "limit_strength",
    "memory_strength",
    "pods_of",
    "scale_strength",
    "variant_of",
)


_LEAST_QUOTA_CORES = 0.01  #: 1 ms in a CFS period of 100 ms: Kubernetes raises a smaller limit to that


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the tables' rows."""


class _Scale(_Row, frozen=True, kw_only=True):
    factor: int
    more: int


class _Pods(_Row, frozen=True, kw_only=True):
    pods_percent: int


class _Limit(_Row, frozen=True, kw_only=True):
    cpu_limit_factor: float


class _Weight(_Row, frozen=True, kw_only=True):
    weight_percent: int


class _Cpu(_Row, frozen=True, kw_only=True):
    workers_factor: int
    load_percent: int
    load_of: Literal["worker", "limit"]


class _Memory(_Row, frozen=True, kw_only=True):
    share: float
    share_of: Literal["headroom", "limit"]


class DelayStrength(_Row, frozen=True, kw_only=True):
    """Delay per packet, one way, uniform in latency ± jitter."""

    latency_ms: int
    jitter_ms: int


class _Loss(_Row, frozen=True, kw_only=True):
    loss_percent: float


class _Kill(_Row, frozen=True, kw_only=True):
    pods_percent: int
    grace_seconds: int


class _Loop(_Row, frozen=True, kw_only=True):
    pods_percent: int
    every_seconds: int


class _Outage(_Row, frozen=True, kw_only=True):
    mechanism: Mechanism
    latency_ms: int


class _Mistake(_Row, frozen=True, kw_only=True):
    mistake: Mistake
    wrong: bool


class _Flag(_Row, frozen=True, kw_only=True):
    position: float


class Intensities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`intensities.yaml`: per type of action, what each word means."""

    scale: dict[Intensity, _Scale]
    delete_pod: dict[Intensity, _Pods]
    set_resources: dict[Intensity, _Limit]
    shift_traffic: dict[Intensity, _Weight]
    cpu_pressure: dict[Intensity, _Cpu]
    memory_pressure: dict[Intensity, _Memory]
    network_delay: dict[Intensity, DelayStrength]
    packet_loss: dict[Intensity, _Loss]
    network_partition: dict[Intensity, _Pods]
    pod_kill: dict[Intensity, _Kill]
    restart_loop: dict[Intensity, _Loop]
    dependency_outage: dict[Intensity, _Outage]
    bad_config: dict[Intensity, _Mistake]
    feature_flag: dict[Intensity, _Flag]


class _Durations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    up_to: dict[DurationClass, int]
    seconds: dict[str, dict[DurationClass, int]]


class CpuStrength(msgspec.Struct, frozen=True):
    """Busy threads in the container, and the share of a core that each tries to use."""

    workers: int
    load_percent: int


def _text(name: str) -> bytes:
    return resources.files("otel_control_gym.configs").joinpath("actions", name).read_bytes()


@cache
def intensities() -> Intensities:
    """Return the tables of strengths."""
    return msgspec.yaml.decode(_text("intensities.yaml"), type=Intensities)


@cache
def _durations() -> _Durations:
    return msgspec.yaml.decode(_text("durations.yaml"), type=_Durations)


def duration_of(action_type: str, word: DurationClass) -> int:
    """Return how many seconds a word means for a type of action."""
    table = _durations().seconds
    return table.get(action_type, table["default"])[word]


def duration_class(seconds: float) -> DurationClass:
    """Return the word for a duration."""
    bounds = _durations().up_to
    words: tuple[DurationClass, ...] = ("transient", "medium")
    return next((word for word in words if seconds <= bounds[word]), "slow_burn")


def cpu_strength(intensity: Intensity, *, limit_cores: float) -> CpuStrength:
    """Return workers and load for a container with a limit of `limit_cores`."""
    row = intensities().cpu_pressure[intensity]
    whole = max(1, math.ceil(limit_cores))
    load = row.load_percent if row.load_of == "worker" else row.load_percent * limit_cores / whole
    return CpuStrength(workers=row.workers_factor * whole, load_percent=round(load))


def memory_strength(intensity: Intensity, service: Service) -> int:
    """Return the memory to hold in a service's container [bytes], whole MiB."""
    row = intensities().memory_pressure[intensity]
    limit = service.memory_limit_bytes or 2 * service.memory_base_bytes
    whole = max(0, limit - service.memory_base_bytes) if row.share_of == "headroom" else limit
    return round(row.share * whole / 2**20) * 2**20


def scale_strength(intensity: Intensity, service: Service) -> int:
    """Return the replicas of a word."""
    row = intensities().scale[intensity]
    return min(20, row.factor * service.replicas + row.more)


def limit_strength(intensity: Intensity, service: Service) -> dict[str, float]:
    """Return limit and request of the CPU [cores] of a word; a limit that is declared as less than Linux grants stays."""
    declared = service.cpu_limit_cores or 1.0
    least = min(declared, _LEAST_QUOTA_CORES)
    limit = max(least, round(declared * intensities().set_resources[intensity].cpu_limit_factor, 3))
    return {"cpu_request_cores": min(service.cpu_request_cores, limit), "cpu_limit_cores": limit}


def pods_of(percent: int, count: int) -> int:
    """Return how many of `count` pods a share means: rounded up, so that any share of some is at least one."""
    return -(-count * percent // 100)


def variant_of(intensity: Intensity, flag: Flag) -> str:
    """Return the variant of a flag: its default for `zero`, else by position among the others, weakest first."""
    position = intensities().feature_flag[intensity].position
    values = flag.variants
    others = [name for name in values if name != flag.default]
    if all(isinstance(value, int | float) for value in values.values()):
        others.sort(key=lambda name: (float(values[name]), name))
    return flag.default if position == 0.0 or not others else others[math.ceil(position * len(others)) - 1]
