"""Checks of a workload: its load, its mix against the application's flows, its curve, its shape.

In: a workload, the application, the label of the workload's file. Out: nothing, or the error that says where, what, and what would be
right. Upstream: `configuration_checks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, assert_never

import msgspec

from otel_control_gym.engine.errors import ConfigurationError, nearest
from otel_control_gym.engine.settings import (
    Burst,
    Constant,
    MixPoint,
    Points,
    Product,
    RandomFactor,
    Replay,
    ServiceConfiguration,
    Shape,
    Sine,
    Sum,
    Workload,
    WorkloadPoint,
)
from otel_control_gym.engine.workload_shapes import SHORTEST_PERIOD_SECONDS

__all__ = ("check_workload",)

_HIGHEST: Final = 100.0  #: factor
_SHORTEST_STEP: Final = 5  #: seconds between two draws of noise: the load generator is told no oftener


def check_workload(workload: Workload, services: ServiceConfiguration, file: str) -> None:
    """See to it that a workload can be offered to an application.

    Raises: ConfigurationError: it can't.
    """
    _at_least(workload.users, file, "users")
    _above_zero(workload.spawn_rate_per_s, file, "spawn_rate_per_s")
    _at_least(workload.rate_per_s, file, "rate_per_s")
    low, high = workload.think_seconds
    if not 0 <= low <= high:
        problem, remedy = "not two ascending bounds of 0 or more", "write [lowest, highest]"
        _refuse(file, "think_seconds", [low, high], problem, remedy)
    if workload.arrivals == "open" and workload.rate_per_s == 0 and not workload.curve:
        problem, remedy = "open arrivals need a rate", "use more than 0, or arrivals: closed"
        _refuse(file, "rate_per_s", workload.rate_per_s, problem, remedy)
    _check_curve(workload, file)
    if workload.shape is not None:
        if workload.curve:
            problem, remedy = "both a curve and a shape, which becomes a curve", "remove one of the two"
            _refuse(file, "curve", msgspec.to_builtins(workload.curve), problem, remedy)
        _check_shape(workload.shape, file, "shape")
    begins = {name: workload.mix.get(name, flow.weight) for name, flow in services.flows.items()}
    _check_mix(workload.mix, begins, services, file, "mix")
    _check_order(workload.mix_changes, file, "mix_changes")
    for number, change in enumerate(workload.mix_changes):
        _check_mix(change.mix, begins | change.mix, services, file, f"mix_changes[{number}].mix")


def _check_mix(
    mix: Mapping[str, float], whole: Mapping[str, float], services: ServiceConfiguration, file: str, key: str
) -> None:
    """Check the weights that are named, and that `whole`, what comes of them, leaves users something to do."""
    for flow, weight in mix.items():
        if flow not in services.flows:
            remedy = f"{nearest(flow, services.flows)}; or absent_flows: ignore, if it is for other applications"
            _refuse(file, f"{key}.{flow}", flow, f"{services.name!r} has no such flow", remedy)
        _at_least(weight, file, f"{key}.{flow}")
    if not any(weight > 0 for weight in whole.values()):
        _refuse(file, key, dict(mix), "no flow is left with a weight above 0", "give at least one flow a weight")


def _check_order(points: Sequence[WorkloadPoint | MixPoint], file: str, key: str) -> None:
    before = -1
    for number, point in enumerate(points):
        if point.at_seconds <= before:
            problem = "before time 0" if number == 0 else f"not after the point before, at {before}"
            remedy = "write points in ascending order of time, from 0 on"
            _refuse(file, f"{key}[{number}].at_seconds", point.at_seconds, problem, remedy)
        before = point.at_seconds


def _check_curve(workload: Workload, file: str) -> None:
    closed = workload.arrivals == "closed"
    wanted, other = ("users", "rate_per_s") if closed else ("rate_per_s", "users")
    _check_order(workload.curve, file, "curve")
    for number, point in enumerate(workload.curve):
        key = f"curve[{number}]"
        level = getattr(point, wanted)
        if level is None or getattr(point, other) is not None:
            problem = f"{workload.arrivals} arrivals have {wanted}, not {other}"
            _refuse(file, key, msgspec.to_builtins(point), problem, f"give the point {wanted} alone")
        _at_least(level, file, f"{key}.{wanted}")


# --- shapes -----------------------------------------------------------------------------------------------------------------


def _check_shape(shape: Shape, file: str, key: str) -> None:
    match shape:
        case Constant():
            _within(shape.level, 0, _HIGHEST, file, f"{key}.level")
        case Sine():
            _check_sine(shape, file, key)
        case Burst():
            _check_burst(shape, file, key)
        case RandomFactor():
            _within(shape.spread, 0, 1, file, f"{key}.spread")
            _at_least(shape.every_seconds, file, f"{key}.every_seconds", _SHORTEST_STEP)
        case Points():
            _check_points(shape, file, key)
        case Replay():
            raise AssertionError("a trace is read before it is checked")
        case Sum() | Product():
            if not shape.parts:
                _refuse(file, f"{key}.parts", [], "without a part", "name at least one shape")
            for number, part in enumerate(shape.parts):
                _check_shape(part, file, f"{key}.parts[{number}]")
        case _:
            assert_never(shape)


def _check_sine(shape: Sine, file: str, key: str) -> None:
    _within(shape.amplitude, 0, 1, file, f"{key}.amplitude")
    _above_zero(shape.periods, file, f"{key}.periods")
    if shape.period_seconds is not None:
        _at_least(shape.period_seconds, file, f"{key}.period_seconds", SHORTEST_PERIOD_SECONDS)
    if shape.phase is not None:
        _within(shape.phase, 0, 1, file, f"{key}.phase")


def _check_burst(shape: Burst, file: str, key: str) -> None:
    _within(shape.height, 0, _HIGHEST, file, f"{key}.height")
    _at_least(shape.rise_seconds, file, f"{key}.rise_seconds", 1)
    _at_least(shape.hold_seconds, file, f"{key}.hold_seconds")
    _at_least(shape.fall_seconds, file, f"{key}.fall_seconds", 1)
    length = shape.rise_seconds + shape.hold_seconds + shape.fall_seconds
    if shape.at_seconds is None:
        if shape.every_seconds < length:
            problem = f"shorter than a burst, which takes {length} (rise, hold and fall)"
            _refuse(file, f"{key}.every_seconds", shape.every_seconds, problem, f"use at least {length}")
        return
    ends = 0
    for number, start in enumerate(shape.at_seconds):
        if start < ends:
            problem = "before time 0" if number == 0 else f"before the end of the burst before, at {ends}"
            _refuse(file, f"{key}.at_seconds[{number}]", start, problem, f"use at least {ends}")
        ends = start + length


def _check_points(shape: Points, file: str, key: str) -> None:
    needed = 2 if shape.stretch_to_horizon else 1
    if len(shape.points) < needed:
        problem = f"{len(shape.points)} points"
        _refuse(file, f"{key}.points", msgspec.to_builtins(shape.points), problem, f"write at least {needed}")
    before = -math.inf
    for number, (at, factor) in enumerate(shape.points):
        if not before < at < math.inf:
            problem, remedy = f"not after the point before, at {before:g}", "write points in ascending order of time"
            _refuse(file, f"{key}.points[{number}][0]", at, problem, remedy)
        before = at
        _within(factor, 0, _HIGHEST, file, f"{key}.points[{number}][1]")


# --- the sentences ----------------------------------------------------------------------------------------------------------


def _refuse(file: str, key: str, found: object, problem: str, remedy: str) -> NoReturn:
    raise ConfigurationError(file=file, key=key, found=found, problem=problem, remedy=remedy)


def _above_zero(found: float, file: str, key: str) -> None:
    if not 0 < found < math.inf:
        _refuse(file, key, found, "must be more than 0", "use more than 0")


def _at_least(found: float, file: str, key: str, least: float = 0) -> None:
    if not least <= found < math.inf:
        _refuse(file, key, found, f"must be {least:g} or more", f"use {least:g} or more")


def _within(found: float, low: float, high: float, file: str, key: str) -> None:
    if not low <= found <= high:
        _refuse(file, key, found, f"must lie between {low:g} and {high:g}", f"use {low:g} to {high:g}")
