"""Draws of the distortion: what `engine.randomness` draws one at a time, for arrays, and chains in time made of it.

In: a key (never the run's seed itself), and what a draw is for: a series, a service, a moment. Out: uniforms, normals, burst losses,
stretches of silence. A draw is a function of that alone, so it depends neither on how the log is cut into flushes nor on other series.
"""

from __future__ import annotations

import hashlib
import math
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.randomness import draw_uniform
from otel_control_gym.engine.settings import Losses, Silence

__all__ = ("BurstLosses", "Stretches", "normals", "text_key", "uniforms")

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def text_key(text: str) -> int:
    """Return the part of a key that stands for a text, as a signed 64-bit integer."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def uniforms(key: int, *parts: Int | int) -> Float:
    """Return floats in [0, 1) for a key, one for each element of the parts, which broadcast: `draw_uniform`, element by element."""
    state = _mixed(_bits(key))
    for part in parts:
        state = _mixed(state ^ _bits(part))
    return np.asarray((state >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def normals(key: int, *parts: Int | int) -> Float:
    """Return standard normal draws (Box and Muller, 1958), keyed as `uniforms`."""
    radius = np.sqrt(-2.0 * np.log1p(-uniforms(key, *parts, 0)))
    return np.asarray(radius * np.cos(2.0 * math.pi * uniforms(key, *parts, 1)))


class BurstLosses:
    """Which of a row of numbered things are lost: Gilbert's chain of two states, stationary from the first on."""

    def __init__(self, losses: Losses, key: int, entity: int) -> None:
        self._share, self._stay = losses.share, 1.0 - 1.0 / losses.burst
        self._fall = losses.share / (losses.burst * (1.0 - losses.share))  # kept -> lost
        self._key, self._entity = key, entity
        self._lost: list[bool] = []

    def lost(self, numbers: Int) -> Bool:
        """Return which of some numbers (0 and up; what is below counts as 0) are lost."""
        if self._share == 0 or numbers.size == 0:
            return np.zeros(numbers.shape, bool)
        for number in range(len(self._lost), int(numbers.max()) + 1):
            before = self._lost[-1] if self._lost else None
            chance = self._share if before is None else self._stay if before else self._fall
            self._lost.append(draw_uniform(self._key, self._entity, number) < chance)
        return np.array(self._lost, bool)[np.maximum(numbers, 0)]


class Stretches:
    """When a source is silent: stretches [start, end) [ns] of exponential lengths and pauses, stationary from `origin` on."""

    def __init__(self, silence: Silence, key: int, source: str, origin: int) -> None:
        self._share = silence.share
        self._key, self._entity = key, text_key(source)
        self._silent_seconds = silence.seconds
        self._pause_seconds = silence.seconds * (1.0 - silence.share) / silence.share if silence.share else math.inf
        self._numbers = count(1)
        self._silent = draw_uniform(key, self._entity, 0) < silence.share
        self._known_until = origin
        self._found: list[tuple[int, int]] = []

    def at(self, time: int) -> tuple[int, int] | None:
        """Return the stretch that a moment lies in, or None."""
        self._know(time)
        return next(((start, end) for start, end in reversed(self._found) if start <= time < end), None)

    def between(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return what [start, end) has of the stretches."""
        self._know(end)
        parts = [(max(start, first), min(end, last)) for first, last in self._found]
        return [(first, last) for first, last in parts if first < last]

    def _know(self, time: int) -> None:
        while self._share and self._known_until <= time:
            mean = self._silent_seconds if self._silent else self._pause_seconds
            drawn = -mean * math.log1p(-draw_uniform(self._key, self._entity, next(self._numbers)))
            end = self._known_until + max(1, round(drawn * SECOND))
            if self._silent:
                self._found.append((self._known_until, end))
            self._known_until, self._silent = end, not self._silent


def _bits(part: Int | int) -> Bits:
    return np.atleast_1d(np.asarray(part if isinstance(part, np.ndarray) else _signed(part), np.int64)).view(np.uint64)


def _signed(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _mixed(value: Bits) -> Bits:
    """SplitMix64's finaliser, as in `engine.randomness`."""
    value = value + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))
