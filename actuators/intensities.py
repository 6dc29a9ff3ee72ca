"""Words for the strength of an intervention ➜ numbers, from `configs/actions/intensities.yaml`.

In: an intervention and the application's configuration. Out: the numbers that its Chaos Mesh object gets.

The CPU limit that `cpu_pressure` is measured by is the *declared* one, not the one that the pods have at the moment: so two
branches of a run that differ in an earlier `set_resources` get the same fault, and the request can be logged before anything is read.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from otel_control_gym.engine.settings import Intensity

__all__ = ("CpuStrength", "DelayStrength", "cpu_strength", "delay_strength")


class _Cpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    workers_factor: int
    load_percent: int
    load_of: Literal["worker", "limit"]


class CpuStrength(msgspec.Struct, frozen=True):
    """Busy threads in the container, and the share of a core that each tries to use."""

    workers: int
    load_percent: int


class DelayStrength(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Delay per packet, one way, uniform in latency ± jitter."""

    latency_ms: int
    jitter_ms: int


class _Tables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cpu_pressure: dict[Intensity, _Cpu]
    network_delay: dict[Intensity, DelayStrength]


@cache
def _tables() -> _Tables:
    text = resources.files("otel_control_gym.configs").joinpath("actions", "intensities.yaml").read_bytes()
    return msgspec.yaml.decode(text, type=_Tables)


def cpu_strength(intensity: Intensity, *, limit_cores: float) -> CpuStrength:
    """Return workers and load for a container with a limit of `limit_cores`."""
    row = _tables().cpu_pressure[intensity]
    whole = max(1, math.ceil(limit_cores))
    load = row.load_percent if row.load_of == "worker" else row.load_percent * limit_cores / whole
    return CpuStrength(workers=row.workers_factor * whole, load_percent=round(load))


def delay_strength(intensity: Intensity) -> DelayStrength:
    """Return latency and jitter of a word."""
    return _tables().network_delay[intensity]
