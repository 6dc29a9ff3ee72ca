"""A policy that draws from a menu at set moments: what off-policy estimates need, because it knows its own probabilities.

Everything on the menu and `noop` are equally likely; at other moments nothing is done, with certainty. Draws are keyed by (seed, step).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from otel_control_gym.engine.randomness import derive_seed, draw_bits
from otel_control_gym.policies.scripted import NOOP, BlindPolicy, Choice

__all__ = ("LEAST_PROPENSITY", "RandomPolicy")

LEAST_PROPENSITY = 0.05  #: below, weights of off-policy estimates get too large


class RandomPolicy(BlindPolicy):
    """Draws one of `menu`, or nothing, at each of `moments` [s of control].

    Raises: ValueError: the menu is so long that a choice would be less likely than `LEAST_PROPENSITY`.
    """

    version = "random-1"
    information: Literal["public", "privileged"] = "public"

    def __init__(self, menu: Sequence[dict[str, Any]], moments: Iterable[int], *, seed: int) -> None:
        self._options = (NOOP, *menu)
        self._moments = frozenset(moments)
        self._seed = derive_seed(seed, "policy/random")
        if 1 / len(self._options) < LEAST_PROPENSITY:
            raise ValueError(
                f"a menu of {len(menu)} makes each choice less likely than {LEAST_PROPENSITY}: use at most 19"
            )

    def choose(self, step: int, seconds: int) -> Choice:
        """Return a draw at one of the moments, `noop` at others."""
        if seconds not in self._moments:
            return Choice(action=NOOP, propensity=1.0, alternatives=({"action": NOOP, "probability": 1.0},))
        chance = 1 / len(self._options)
        return Choice(
            action=self._options[draw_bits(self._seed, step) % len(self._options)],
            propensity=chance,
            alternatives=tuple({"action": option, "probability": chance} for option in self._options),
        )
