"""The kernel's cache of machine code can't be stale, and it compiles no more than it must."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from otel_control_gym.stands.twin import compilation
from otel_control_gym.stands.twin.references import by_reference

njit: Any = numba.njit


class Pair(NamedTuple):
    """Two arrays that compiled code takes by reference."""

    numbers: npt.NDArray[np.int64]
    ratios: npt.NDArray[np.float64]


def test_the_digest_covers_every_module_with_compiled_code() -> None:
    sources = compilation.kernel_sources()
    folder = sources[0].parent

    users = {path.name for path in folder.glob("*.py") if "twin.compilation import" in path.read_text(encoding="utf-8")}

    assert users <= {path.name for path in sources}
    assert {"compilation.py", "state.py", "topology.py"} <= {path.name for path in sources}


def test_the_cache_folder_is_set_for_the_kernel_only() -> None:
    settings = numba.config

    def function(value: int) -> int:
        return value + 1

    before = settings.CACHE_DIR  # type: ignore[attr-defined]
    compiled = compilation.entry_point(function)

    assert before == settings.CACHE_DIR  # type: ignore[attr-defined]
    assert compilation.sources_digest() in compiled.stats.cache_path  # type: ignore[attr-defined]


def test_a_function_is_compiled_once_for_all_constants() -> None:
    @compilation.compiled
    def double(value: int) -> int:
        return 2 * value

    def function(value: int) -> int:
        return double(3) + double(4) + double(value)

    assert njit(function)(5) == 24
    assert len(double.signatures) == 1  # type: ignore[attr-defined]


def test_a_reference_has_the_fields_of_its_named_tuple() -> None:
    @compilation.compiled
    def change(pair: Pair) -> None:
        pair.numbers[1] += 2
        pair.ratios[0] = pair.numbers[1] / 4

    def function(pair: Pair) -> None:
        change(by_reference(pair))

    pair = Pair(np.array([1, 5]), np.array([0.0]))
    njit(function)(pair)

    assert pair.numbers.tolist() == [1, 7]
    assert pair.ratios.tolist() == [1.75]
