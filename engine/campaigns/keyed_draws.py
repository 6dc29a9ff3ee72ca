"""Draws of one run of a design, each under a purpose of its own: a further draw shifts none of the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from otel_control_gym.engine.randomness import derive_seed, draw_bits, draw_uniform

__all__ = ("Draws",)

ItemT = TypeVar("ItemT")


class Draws:
    """What is drawn under (seed, key)."""

    def __init__(self, seed: int, key: str) -> None:
        self._seed = derive_seed(seed, key)

    def choice(self, purpose: str, items: Sequence[ItemT]) -> ItemT:
        """Return one of the items, all equally likely."""
        return items[draw_bits(derive_seed(self._seed, purpose)) % len(items)]

    def between(self, purpose: str, low: int, high: int, step: int) -> int:
        """Return a multiple of `step` from low to high, both included."""
        first, last = -(-low // step), high // step
        return step * (first + draw_bits(derive_seed(self._seed, purpose)) % max(1, last - first + 1))

    def shuffled(self, purpose: str, items: Iterable[ItemT]) -> list[ItemT]:
        """Return the items in an order by chance."""
        seed = derive_seed(self._seed, purpose)
        return [item for _, item in sorted(enumerate(items), key=lambda pair: draw_uniform(seed, pair[0]))]

    def share(self, purpose: str) -> float:
        """Return a number in [0, 1)."""
        return draw_uniform(derive_seed(self._seed, purpose))
