"""What a policy says of its choice ➜ what the log holds of it.

In: a probability and the alternatives that were weighed. Out: the same, plain and checked: off-policy evaluation divides by them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.plain_values import plain

__all__ = ("checked_propensity",)


def checked_propensity(
    propensity: float | None, alternatives: Sequence[dict[str, Any]] | None
) -> tuple[float | None, tuple[dict[str, Any], ...] | None]:
    """Return both as the log holds them.

    Raises: UsageError: a probability isn't one, or an alternative holds what the log can't.
    """
    chance = None if propensity is None else _probability(propensity)
    if propensity is not None and not chance:
        raise UsageError(
            f"propensity = {propensity!r}: must be the probability of the chosen action, above 0 and at most 1"
        )
    if alternatives is None:
        return chance, None
    weighed: list[dict[str, Any]] = []
    for alternative in alternatives:
        try:
            found = plain(alternative)
        except TypeError as error:
            raise UsageError(f"alternatives: {alternative!r} can't be logged: {error}") from error
        if not isinstance(found, dict) or _probability(found.get("probability")) is None:
            raise UsageError(f"alternatives: {alternative!r}: each needs its `probability`, from 0 to 1")
        weighed.append(found)
    total = sum(alternative["probability"] for alternative in weighed)
    if not math.isclose(total, 1.0, abs_tol=1e-6):
        raise UsageError(
            f"alternatives: their probabilities sum to {total:g}; with the chosen action among them they sum to 1"
        )
    return chance, tuple(weighed)


def _probability(found: object) -> float | None:
    """Return a number from 0 to 1 as a float, anything else as None."""
    try:
        number = plain(found)
    except TypeError:
        return None
    return float(number) if isinstance(number, int | float) and 0.0 <= number <= 1.0 else None
