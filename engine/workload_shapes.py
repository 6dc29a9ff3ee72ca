"""A workload's shape ➜ its curve: what users, or the rate, are at which moment of an episode.

In: a shape (`settings.Shape`), the horizon, the run's seed. Out: a factor over control time, made of lines between knots, and from
it the curve that a log carries in full. Pure: the same three give the same curve.

Why lines: that is what the load generator is driven along (`actuators.workload_curve`), so what a shape says between two knots is what a
run does. Sums are exact; a product is met at the knots of all its parts, and is a line between them, where the true one is bent.

Each draw has a key of its own, which holds the shape's place in the whole: a further part at the end shifts no other's draws. They
show in public (users can be counted), so nobody can reckon back from them to the seed. A file of a `replay` is read before
(`engine.workload_files`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Final, NamedTuple, assert_never

import msgspec

from otel_control_gym.engine.randomness import derive_key, draw_uniform
from otel_control_gym.engine.settings import (
    Burst,
    Constant,
    Points,
    Product,
    RandomFactor,
    Replay,
    Shape,
    Sine,
    Sum,
    Workload,
    WorkloadPoint,
)

__all__ = ("SHORTEST_PERIOD_SECONDS", "Knot", "factor_at", "knots", "shaped")

SHORTEST_PERIOD_SECONDS: Final = 60
_KNOTS_PER_PERIOD: Final = 24  #: the lines of a sine are off by less than 1 % of its amplitude
_DEVIATIONS: Final = 3.0  #: at which a normal draw is cut off
_DECIMALS: Final = 6  #: of a rate


class Knot(NamedTuple):
    """Where two lines of a factor meet."""

    at: float  #: seconds of control time
    factor: float


def shaped(workload: Workload, horizon_seconds: int, seed: int) -> Workload:
    """Return a workload whose shape has become its curve; itself, if it has none.

    Before control there is as much load as at its first moment, so that the beginning of control is no event.
    """
    if workload.shape is None:
        return workload
    closed = workload.arrivals == "closed"
    base = workload.users if closed else workload.rate_per_s
    levels: dict[int, float] = {}
    for knot in knots(workload.shape, horizon_seconds, seed):
        level = base * knot.factor
        levels[round(knot.at)] = round(level) if closed else round(level, _DECIMALS)
    points = [_point(at, level, closed=closed) for at, level in _needed(sorted(levels.items()))]
    first = levels[min(levels)]
    return msgspec.structs.replace(
        workload,
        users=int(first) if closed else workload.users,
        rate_per_s=workload.rate_per_s if closed else first,
        curve=tuple(points),
        interpolation="linear",
        shape=None,
    )


def knots(shape: Shape, horizon_seconds: int, seed: int) -> tuple[Knot, ...]:
    """Return a shape's factor over an episode, from 0 to the horizon, both included.

    Raises: ValueError: the shape has a `replay` whose file wasn't read.
    """
    factor = _factor(shape, horizon_seconds, derive_key(seed, "workload shape"), "")
    inside = (at for at in factor.moments if 0 < at < horizon_seconds)
    moments = sorted({0.0, *inside, float(horizon_seconds)})
    return tuple(Knot(at, factor.value(at)) for at in moments)


def factor_at(factor: Sequence[Knot], at: float) -> float:
    """Return a factor at a moment: on the line between two knots, beyond the first and the last what they say."""
    after = bisect_right(factor, at, key=lambda knot: knot.at)
    if after == 0:
        return factor[0].factor
    if after == len(factor):
        return factor[-1].factor
    (start, before), (end, then) = factor[after - 1], factor[after]
    return before + (then - before) * (at - start) / (end - start)


class _Factor(NamedTuple):
    """A factor as a function, and the moments at which its lines may bend."""

    moments: tuple[float, ...]
    value: Callable[[float], float]


def _factor(shape: Shape, horizon: int, key: int, place: str) -> _Factor:
    match shape:
        case Constant(level=level):
            return _Factor((), lambda _: level)
        case Sine():
            return _sine(shape, horizon, derive_key(key, f"sine{place}"))
        case Burst():
            return _lines(_bursts(shape, horizon, derive_key(key, f"burst{place}")))
        case RandomFactor():
            return _lines(_noise(shape, horizon, derive_key(key, f"noise{place}")))
        case Points():
            return _lines(_points(shape, horizon))
        case Replay(file=file):
            raise ValueError(f"the trace {file!r} must be read first")
        case Sum(parts=parts):
            return _composed(parts, math.fsum, horizon, key, place)
        case Product(parts=parts):
            return _composed(parts, math.prod, horizon, key, place)
        case _:
            assert_never(shape)


def _composed(
    parts: Sequence[Shape], together: Callable[[Iterable[float]], float], horizon: int, key: int, place: str
) -> _Factor:
    factors = [_factor(part, horizon, key, f"{place}.{number}") for number, part in enumerate(parts)]
    moments = (at for factor in factors for at in factor.moments)
    return _Factor(tuple(moments), lambda at: together([factor.value(at) for factor in factors]))


def _lines(found: Sequence[Knot]) -> _Factor:
    return _Factor(tuple(knot.at for knot in found), lambda at: factor_at(found, at))


def _sine(shape: Sine, horizon: int, key: int) -> _Factor:
    period = shape.period_seconds or max(horizon / shape.periods, SHORTEST_PERIOD_SECONDS)
    phase = draw_uniform(key) if shape.phase is None else shape.phase
    step = period / _KNOTS_PER_PERIOD
    moments = tuple(round(number * step) for number in range(math.floor(horizon / step) + 1))
    return _Factor(moments, lambda at: 1.0 + shape.amplitude * math.sin(2 * math.pi * (at / period + phase)))


def _bursts(shape: Burst, horizon: int, key: int) -> list[Knot]:
    length = shape.rise_seconds + shape.hold_seconds + shape.fall_seconds
    if shape.at_seconds is not None:
        starts = list(shape.at_seconds)
    else:
        stretches = max(1, horizon // shape.every_seconds)
        room = max(0, horizon // stretches - length)
        starts = [
            number * horizon // stretches + int(draw_uniform(key, number) * (room + 1)) for number in range(stretches)
        ]
    found = [Knot(0.0, 1.0)]
    for start in starts:
        top = start + shape.rise_seconds
        corners = ((start, 1.0), (top, shape.height), (top + shape.hold_seconds, shape.height), (start + length, 1.0))
        found += [Knot(float(at), factor) for at, factor in corners if at > found[-1].at]
    return found


def _noise(shape: RandomFactor, horizon: int, key: int) -> list[Knot]:
    found = []
    for number in range(horizon // shape.every_seconds + 2):
        share = max(draw_uniform(key, number), 2.0**-53)
        normal = min(max(NormalDist().inv_cdf(share), -_DEVIATIONS), _DEVIATIONS)
        factor = math.exp(shape.spread * normal - shape.spread**2 / 2)
        found.append(Knot(float(number * shape.every_seconds), factor))
    return found


def _points(shape: Points, horizon: int) -> list[Knot]:
    found = [Knot(at, factor) for at, factor in shape.points]
    if not shape.stretch_to_horizon:
        return found
    first, last = found[0].at, found[-1].at
    return [Knot((at - first) / (last - first) * horizon, factor) for at, factor in found]


def _needed(levels: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the points without those in the middle of a level stretch."""
    inner = [here for (before, here), (_, after) in pairwise(pairwise(levels)) if not before[1] == here[1] == after[1]]
    return [levels[0], *inner, *levels[-1:]] if len(levels) > 1 else list(levels)


def _point(at: int, level: float, *, closed: bool) -> WorkloadPoint:
    return WorkloadPoint(at_seconds=at, users=int(level)) if closed else WorkloadPoint(at_seconds=at, rate_per_s=level)
