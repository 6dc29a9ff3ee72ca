"""Workload profiles by name, from `configs/workloads/`: what `set_workload` may ask for in one word."""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from otel_control_gym.engine.settings import Workload

__all__ = ("profile", "profile_names")


@cache
def profile_names() -> tuple[str, ...]:
    """Return the names of all profiles."""
    folder = resources.files("otel_control_gym.configs").joinpath("workloads")
    return tuple(sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")))


@cache
def profile(name: str) -> Workload:
    """Return a profile that is among the names."""
    path = resources.files("otel_control_gym.configs").joinpath("workloads", f"{name}.yaml")
    return msgspec.yaml.decode(path.read_bytes(), type=Workload)
