"""What becomes of an autoscaler's proposal: stabilisation, limits of the rate, bounds.

In: the proposal, the present size, recommendations and scalings of the past, the spec. Out: the size that is set, and what held it
(reasons and messages of the conditions AbleToScale and ScalingLimited). Pure.

Without a `behavior` a size isn't lowered below any recommendation of the last 300 s, and grows to twice itself at most, or to four.
With one, each direction has its window, and its policies limit what is changed within their periods, counting the changes made already.

Source: reference of kubernetes/pkg/controller/podautoscaler/horizontal.go (1.36), in our own words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.objects import Object

__all__ = ("Limit", "Past", "Verdict", "normalize")

_DOWN_WINDOW_SECONDS = 300  #: of the controller, where the spec names none
_LEAST_GROWTH = 4  #: a size may always grow to this, without a behavior

_READY = ("ReadyForNewScale", "recommended size matches current size")
_DOWN_STABILIZED = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_UP_STABILIZED = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")

Limit = tuple[str, str]  #: reason and message of a condition


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What an autoscaler remembers: (time [ns], number) each, oldest first."""

    recommendations: Sequence[tuple[int, int]] = ()
    ups: Sequence[tuple[int, int]] = ()  #: pods added
    downs: Sequence[tuple[int, int]] = ()  #: pods taken away


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The size to set, and why it isn't the one that was proposed."""

    replicas: int
    stabilization: Limit  #: of the condition AbleToScale, which is true
    limit: Limit  #: of the condition ScalingLimited
    limited: bool


def normalize(spec: Object, proposed: int, *, current: int, now: int, past: Past) -> Verdict:
    """Return the size that an autoscaler sets.

    Args:
        spec: of the HorizontalPodAutoscaler, with defaults.
        proposed: the largest proposal of its metrics.
        current: the present size, within the bounds.
        now: [ns].
        past: before this recommendation.
    """
    if "behavior" in spec:
        stabilized, stabilization = _stabilize(spec["behavior"], proposed, current=current, now=now, past=past)
        replicas, limit = _limit_by_rules(spec, stabilized, current=current, now=now, past=past)
    else:
        recent = _within(past.recommendations, now, _DOWN_WINDOW_SECONDS)
        stabilized = max([proposed, *recent])
        stabilization = _READY if stabilized == proposed else _DOWN_STABILIZED
        replicas, limit = _limit(spec, stabilized, max(2 * current, _LEAST_GROWTH))
    return Verdict(replicas=replicas, stabilization=stabilization, limit=limit, limited=replicas != stabilized)


def _limit(spec: Object, wanted: int, fastest: int) -> tuple[int, Limit]:
    """Hold a size within the bounds and below the fastest growth."""
    least, most = int(spec["minReplicas"]), int(spec["maxReplicas"])
    allowed, reason = (fastest, _UP_LIMIT) if most > fastest else (most, _TOO_MANY)
    if wanted < least:
        return least, _TOO_FEW
    return (allowed, reason) if wanted > allowed else (wanted, _WITHIN)


def _stabilize(behavior: Object, proposed: int, *, current: int, now: int, past: Past) -> tuple[int, Limit]:
    """Move a size as little as the recommendations of both windows allow."""
    up_window = int(behavior["scaleUp"].get("stabilizationWindowSeconds", 0))
    down_window = int(behavior["scaleDown"].get("stabilizationWindowSeconds", _DOWN_WINDOW_SECONDS))
    lowest = min([proposed, *_within(past.recommendations, now, up_window)])
    highest = max([proposed, *_within(past.recommendations, now, down_window)])
    stabilized = min(max(current, lowest), highest)
    if stabilized == proposed:
        return stabilized, _READY
    return stabilized, _UP_STABILIZED if proposed >= current else _DOWN_STABILIZED


def _limit_by_rules(spec: Object, wanted: int, *, current: int, now: int, past: Past) -> tuple[int, Limit]:
    """Hold a size within the bounds and what the policies of its direction leave."""
    least, most = int(spec["minReplicas"]), int(spec["maxReplicas"])
    behavior = spec["behavior"]
    if wanted > current:
        fastest = max(current, _fastest(behavior["scaleUp"], current, now, past, up=True))
        allowed, reason = (fastest, _UP_LIMIT) if most > fastest else (most, _TOO_MANY)
        return (allowed, reason) if wanted > allowed else (wanted, _WITHIN)
    if wanted < current:
        fastest = min(current, _fastest(behavior["scaleDown"], current, now, past, up=False))
        allowed, reason = (fastest, _DOWN_LIMIT) if least < fastest else (least, _TOO_FEW)
        return (allowed, reason) if wanted < allowed else (wanted, _WITHIN)
    return wanted, _WITHIN


def _fastest(rules: Object, current: int, now: int, past: Past, *, up: bool) -> int:
    """Return how far the policies of a direction let the size go now; several are joined as the select policy says."""
    if rules["selectPolicy"] == "Disabled":
        return current
    limits = []
    for policy in rules["policies"]:
        period, value = int(policy["periodSeconds"]), int(policy["value"])
        start = current - sum(_within(past.ups, now, period)) + sum(_within(past.downs, now, period))
        if policy["type"] == "Pods":
            limits.append(start + value if up else start - value)
        elif up:
            limits.append(math.ceil(start * (100 + value) / 100))
        else:
            limits.append(int(start * (100 - value) / 100))
    return max(limits) if (rules["selectPolicy"] == "Max") == up else min(limits)


def _within(entries: Sequence[tuple[int, int]], now: int, window_seconds: int) -> list[int]:
    """Return the numbers noted less than a window ago."""
    return [number for moment, number in entries if moment > now - window_seconds * SECOND]
