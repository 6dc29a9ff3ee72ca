"""Compiled draws are those of `engine.randomness`, and have the moments of their distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.randomness import draw_bits, draw_uniform
from otel_control_gym.stands.twin import draws

P = ParamSpec("P")
R = TypeVar("R")

seeds = st.integers(0, 2**64 - 1)
parts = st.integers(0, 2**63 - 1)


def callable_from_python(function: Callable[P, R]) -> Callable[P, R]:
    """Compile with a wrapper: the kernel's inner functions have none."""
    return cast("Callable[P, R]", numba.njit(function))


@callable_from_python
def compiled_bits(seed: np.uint64, purpose: int, index: int) -> np.uint64:
    return draws.bits(draws.root(seed), purpose, index)


@callable_from_python
def compiled_path(seed: np.uint64, first: int, second: int, purpose: int, index: int) -> float:
    return draws.uniform(draws.descend(draws.descend(draws.root(seed), first), second), purpose, index)


@callable_from_python
def exponentials(seed: np.uint64, count: int) -> npt.NDArray[np.float64]:
    return np.array([draws.exponential(draws.root(seed), draws.WORK, index) for index in range(count)])


@callable_from_python
def normals(seed: np.uint64, count: int) -> npt.NDArray[np.float64]:
    return np.array([draws.normal(draws.root(seed), draws.WORK, index) for index in range(count)])


@settings(deadline=None)
@given(seeds, parts, parts)
def test_compiled_bits_are_those_of_the_engine(seed: int, purpose: int, index: int) -> None:
    assert int(compiled_bits(np.uint64(seed), purpose, index)) == draw_bits(seed, purpose, index)


@settings(deadline=None)
@given(seeds, parts, parts, parts, parts)
def test_descending_is_drawing_with_a_longer_key(seed: int, first: int, second: int, purpose: int, index: int) -> None:
    expected = draw_uniform(seed, first, second, purpose, index)
    assert compiled_path(np.uint64(seed), first, second, purpose, index) == expected


def test_distributions_have_their_moments() -> None:
    exponential, normal = exponentials(np.uint64(1), 400_000), normals(np.uint64(2), 400_000)

    assert exponential.mean() == pytest.approx(1.0, abs=0.01)
    assert exponential.var() == pytest.approx(1.0, abs=0.02)
    assert normal.mean() == pytest.approx(0.0, abs=0.01)
    assert normal.var() == pytest.approx(1.0, abs=0.01)
    assert (normal**4).mean() == pytest.approx(3.0, abs=0.1)
