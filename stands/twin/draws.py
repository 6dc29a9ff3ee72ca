"""Counter-based draws for compiled code: the same function as `engine.randomness`, and the distributions made of it.

In: a key, built by `descend` from the seed, and a purpose and an index. Out: bits, uniforms, work times. A draw is a function of its
key alone, never of the draws before it, so that an action shifts no draw but those it causes.

What is exogenous (the same in two runs of one seed whatever is done to the stand): per user and iteration the task, the number of
additions, the products and the pause; per request and call path (call site, repetition, attempt) the CPU work, the jitter of
each leg, which of its transmissions a lossy network takes, whether it fails by itself or by a flag, and the endpoint's, the split's and
the cache's *uniform*; a message's partition and the work for it; the gaps of open arrivals; whether a trace is sampled; the phase of a
pod's CFS periods. What isn't: the moments of a closed loop's requests (they follow the answers), how many iterations a user gets
through, and which pod an endpoint's uniform means (that depends on who is ready).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from otel_control_gym.stands.twin.compilation import inlined

__all__ = (
    "ADDITIONS",
    "ARRIVAL",
    "ATTEMPT",
    "BACKOFF",
    "CACHE",
    "CLIENT_SPAN",
    "CONNECTION",
    "COPY",
    "ENDPOINT",
    "FAILURE",
    "FLAG",
    "FLOW",
    "LEG",
    "LOSS",
    "MESSAGE",
    "PARTITION",
    "PHASE",
    "PRODUCT",
    "REQUEST",
    "ROOT_SPAN",
    "SAMPLE",
    "SERVER_SPAN",
    "SPLIT",
    "TASK",
    "THINK",
    "TRACE_HIGH",
    "TRACE_LOW",
    "WORK",
    "bits",
    "descend",
    "exponential",
    "normal",
    "root",
    "uniform",
)

TASK: Final = 1
FLOW: Final = 2
THINK: Final = 3
ADDITIONS: Final = 4
PRODUCT: Final = 5
REQUEST: Final = 6
WORK: Final = 7
ENDPOINT: Final = 8
CONNECTION: Final = 9
LEG: Final = 10
ARRIVAL: Final = 11
SAMPLE: Final = 12
TRACE_HIGH: Final = 13
TRACE_LOW: Final = 14
ROOT_SPAN: Final = 15
CLIENT_SPAN: Final = 16
SERVER_SPAN: Final = 17
PHASE: Final = 18
BACKOFF: Final = 19
SPLIT: Final = 20
LOSS: Final = 21
FAILURE: Final = 22
PARTITION: Final = 40
MESSAGE: Final = 41
CACHE: Final = 42
FLAG: Final = 43
COPY: Final = 44

ATTEMPT: Final = 2**40  #: part of an attempt's key, under that of the attempt before; call sites are smaller

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


@inlined
def root(seed: np.uint64) -> np.uint64:
    """Return the key that all keys of a seed descend from: `_mix(seed)`."""
    value = np.uint64(seed) + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


@inlined
def descend(key: np.uint64, part: int) -> np.uint64:
    """Return the key of `part` under `key`: `descend(descend(root(s), a), b)` is `draw_bits(s, a, b)`."""
    return root(key ^ np.uint64(part))


@inlined
def bits(key: np.uint64, purpose: int, index: int) -> np.uint64:
    """Return 64 random bits for a purpose and an index under a key."""
    return root(root(key ^ np.uint64(purpose)) ^ np.uint64(index))


@inlined
def uniform(key: np.uint64, purpose: int, index: int) -> float:
    """Return a float in [0, 1), with 53 random bits."""
    return np.float64(bits(key, purpose, index) >> np.uint64(11)) * 2.0**-53


@inlined
def exponential(key: np.uint64, purpose: int, index: int) -> float:
    """Return an exponential variate of mean 1."""
    return -math.log1p(-uniform(key, purpose, index))


@inlined
def normal(key: np.uint64, purpose: int, index: int) -> float:
    """Return a standard normal variate (Box and Muller's first one)."""
    drawn = bits(key, purpose, index)
    radius = math.sqrt(-2.0 * math.log1p(-(np.float64(drawn >> np.uint64(11)) * 2.0**-53)))
    angle = np.float64(root(drawn) >> np.uint64(11)) * 2.0**-53
    return radius * math.cos(2.0 * math.pi * angle)
