"""Effects of an action ➜ its certificate: visible, masked or none; what moved first, after how long, how far it spread, how large it is.

In: which cells changed (`effects`), the graph, where the action was done. Out: a `Certificate`. Pure.

- *visible*: a user-facing indicator changed: the objective's share of good answers, or errors or latency of the service that users call, as
  it or they see it. *masked*: something else changed, they didn't feel it. *none*: no cell changed.
- The first change is that of the column whose delay is least, in the median over branches; of several, one at the target comes first, then
  the largest for its threshold. `off_target` says that none of the earliest is at the target.
- Delay counts from when the action was applied to the end of the first bucket beyond the threshold: when it could be seen.
- Spread is the largest number of edges, in either direction, between the target and an entity that changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

from otel_control_gym.engine.campaigns.effects import Column, Effects, EffectSettings

__all__ = ("Certificate", "Class", "Method", "Place", "certificate_of")

Class = Literal["none", "masked", "visible"]
Method = Literal["branches", "pair", "before_after"]
Float = npt.NDArray[np.float64]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an action was done, in which graph."""

    targets: tuple[str, ...]  #: services, or one source->target; empty: nowhere in particular
    edges: tuple[tuple[str, str], ...]  #: source, target
    entry: str  #: service of the objective
    callers: tuple[str, ...]  #: what calls the entry from outside: the users


class Certificate(msgspec.Struct, frozen=True, kw_only=True, rename={"effect_class": "class"}):
    """What an action did; null where nothing changed, or where the method can't tell."""

    method: Method
    n_branches: int  #: per arm; 0: a pair of runs, or one run
    effect_class: Class
    off_target: bool | None = None
    first_feature: str | None = None
    first_entity: str | None = None
    delay_s: float | None = None
    delay_low_s: float | None = None
    delay_high_s: float | None = None
    spread_hops: int | None = None
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    unit: str | None = None


class _Delays(msgspec.Struct, frozen=True):
    median: float
    low: float | None
    high: float | None


def certificate_of(
    effects: Effects,
    place: Place,
    settings: EffectSettings,
    *,
    applied_s: float,
    method: Method,
) -> Certificate:
    """Return the certificate; `applied_s` is when the action was applied, in seconds after the decision."""
    branches = len(effects.by_bucket) if method == "branches" else 0
    moved = [int(number) for number in np.flatnonzero(effects.changed.any(axis=0))]
    if not moved:
        return Certificate(method=method, n_branches=branches, effect_class="none")
    delays = {number: _delays(effects, number, applied_s, settings.confidence) for number in moved}
    hops = _hops(place)

    def rank(number: int) -> tuple[float, bool, float, Column]:
        column = effects.columns[number]
        size = float(np.nanmax(np.abs(effects.mean[:, number]) / effects.threshold[:, number]))
        return (delays[number].median, not _is_at(column.entity, place), -size, column)

    first = min(moved, key=rank)
    earliest = [number for number in moved if delays[number].median == delays[first].median]
    column, delay = effects.columns[first], delays[first]
    effect, low, high = _size(effects, first, settings.confidence)
    visible = any(_is_felt(effects.columns[number], place, settings) for number in moved)
    return Certificate(
        method=method,
        n_branches=branches,
        effect_class="visible" if visible else "masked",
        off_target=not any(_is_at(effects.columns[number].entity, place) for number in earliest)
        if place.targets
        else None,
        first_feature=column.feature,
        first_entity=column.entity,
        delay_s=delay.median,
        delay_low_s=delay.low,
        delay_high_s=delay.high,
        spread_hops=_spread((effects.columns[number].entity for number in moved), hops),
        effect=effect,
        effect_low=low,
        effect_high=high,
        unit=settings.features[column.feature].unit,
    )


def _delays(effects: Effects, number: int, applied_s: float, confidence: float) -> _Delays:
    """Return when a column was first beyond its threshold, over branches; one that never was counts with all that was measured."""
    window = int(np.flatnonzero(effects.changed[:, number])[0])
    side = np.sign(effects.mean[window, number])
    start = window * effects.window_seconds // effects.bucket_seconds
    with np.errstate(invalid="ignore"):
        beyond = side * effects.by_bucket[:, start:, number] > effects.tolerance[start:, number]
    length = beyond.shape[1]
    buckets = np.where(beyond.any(axis=1), beyond.argmax(axis=1), length - 1)
    seconds = (start + buckets + 1.0) * effects.bucket_seconds - applied_s
    if len(seconds) == 1:
        return _Delays(float(seconds[0]), None, None)
    median = float(np.median(seconds))
    # Of order statistics: a delay is no normal quantity.
    interval = stats.quantile_test(seconds, q=median, p=0.5).confidence_interval(confidence)
    return _Delays(median, *(None if np.isnan(end) else float(end) for end in (interval.low, interval.high)))


def _size(effects: Effects, number: int, confidence: float) -> tuple[float, float | None, float | None]:
    """Return the mean difference in the windows in which a column changed, with its interval: over branches, or over windows in time."""
    if effects.before is not None:
        return _size_in_time(effects, effects.before[:, number], number, confidence)
    each = effects.by_window[:, effects.changed[:, number], number].mean(axis=1)
    mean = float(each.mean())
    if len(each) == 1:
        return mean, None, None
    reach = float(stats.t.ppf((1 + confidence) / 2, len(each) - 1) * stats.sem(each))
    return mean, mean - reach, mean + reach


def _size_in_time(
    effects: Effects, before: Float, number: int, confidence: float
) -> tuple[float, float | None, float | None]:
    """Return the mean change of one run, with Welch's interval: as if windows were independent, so rather too narrow than too wide."""
    usual = before[np.isfinite(before)]
    changed = effects.by_window[0, effects.changed[:, number], number]
    mean = float(changed.mean())
    if len(changed) == 1:  # what one further window may be
        spread = float(usual.std(ddof=1)) * (1 + 1 / len(usual)) ** 0.5
        reach = float(stats.t.ppf((1 + confidence) / 2, len(usual) - 1)) * spread
        return mean, mean - reach, mean + reach
    if np.ptp(usual) == 0 and np.ptp(changed) == 0:
        return mean, mean, mean
    found = stats.ttest_ind(changed, usual - usual.mean(), equal_var=False).confidence_interval(confidence)
    return mean, float(found.low), float(found.high)


def _is_felt(column: Column, place: Place, settings: EffectSettings) -> bool:
    """Return whether users feel a column's change."""
    if column.feature not in settings.user_facing:
        return False
    return column.entity == place.entry or column.entity in {f"{caller}->{place.entry}" for caller in place.callers}


def _is_at(entity: str, place: Place) -> bool:
    """Return whether an entity is the target, or shows it: an edge that ends there, or an end of an edge that is the target."""
    ends = _ends(entity)
    return any(entity == target or bool(set(ends) & set(_ends(target))) for target in place.targets)


def _ends(entity: str) -> tuple[str, ...]:
    source, arrow, target = entity.partition("->")
    return (source, target) if arrow else (source,)


def _hops(place: Place) -> dict[str, int]:
    """Return how many edges lie between the target and each service."""
    beside: dict[str, list[str]] = {}
    for source, target in place.edges:
        beside.setdefault(source, []).append(target)
        beside.setdefault(target, []).append(source)
    hops = {end: 0 for target in place.targets for end in _ends(target)}
    waiting = deque(hops)
    while waiting:
        service = waiting.popleft()
        for other in beside.get(service, ()):
            if other not in hops:
                hops[other] = hops[service] + 1
                waiting.append(other)
    return hops


def _spread(entities: Iterable[str], hops: dict[str, int]) -> int | None:
    found: Sequence[int] = [
        min(hops[end] for end in _ends(entity) if end in hops)
        for entity in entities
        if any(end in hops for end in _ends(entity))
    ]
    return max(found, default=None)
