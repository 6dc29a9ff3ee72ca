"""Packing loses nothing: every float64 comes back bit for bit, whatever its neighbours; and counters become small."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.errors import LogCorrupted
from otel_control_gym.engine.packing import pack_samples, unpack_samples

INT64 = st.integers(-(2**63), 2**63 - 1)
ANY_BITS = INT64.map(lambda bits: float(np.array([bits], dtype=np.int64).view(np.float64)[0]))
ON_A_GRID = st.builds(lambda k, grid: k / grid, st.integers(-(10**12), 10**12), st.sampled_from([1, 10, 100, 1e3, 1e6]))
ODD = st.sampled_from(
    [0.0, -0.0, float("nan"), float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308, 2.0**53, 0.1]
)
SAMPLES = st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), INT64, ANY_BITS | ON_A_GRID | ODD), max_size=60)

Columns = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def columns(samples: list[tuple[int, int, float]]) -> Columns:
    return (
        np.array([series for series, _, _ in samples], dtype=np.int32),
        np.array([time for _, time, _ in samples], dtype=np.int64),
        np.array([value for _, _, value in samples], dtype=np.float64),
    )


def scraped(series: int, scrapes: int, values: npt.NDArray[np.float64]) -> Columns:
    """Samples as a collector delivers them: series by series, all scraped at the same moments."""
    times = 1_767_571_200_000_000_000 + 5_000_000_000 * np.arange(scrapes, dtype=np.int64)
    return np.repeat(np.arange(series, dtype=np.int32), scrapes), np.tile(times, series), values.ravel()


@given(SAMPLES)
def test_any_columns_come_back_bit_for_bit(samples: list[tuple[int, int, float]]) -> None:
    given_columns = columns(samples)
    unpacked = unpack_samples(pack_samples(*given_columns))
    assert [column.dtype for column in unpacked] == [column.dtype for column in given_columns]
    assert [column.tobytes() for column in unpacked] == [column.tobytes() for column in given_columns]


@given(st.lists(st.lists(ANY_BITS | ON_A_GRID | ODD, min_size=1, max_size=8), max_size=12))
def test_runs_on_different_grids_come_back_bit_for_bit(runs: list[list[float]]) -> None:
    given_columns = columns(
        [(series, step, value) for series, run in enumerate(runs) for step, value in enumerate(run)]
    )
    assert unpack_samples(pack_samples(*given_columns))[2].tobytes() == given_columns[2].tobytes()


@st.composite
def scraped_together(draw: st.DrawFn) -> Columns:
    """Series that were scraped at the same moments, or each a little later than the one before; some not as often as others."""
    moments = sorted(draw(st.sets(INT64, min_size=1, max_size=6)))
    drift = draw(st.sampled_from([0, 0, 1, -3, 2**40]))
    values = draw(st.lists(ANY_BITS | ON_A_GRID | ODD, min_size=len(moments), max_size=len(moments)))
    runs = draw(st.lists(st.sampled_from([0, 1, len(moments)]), max_size=6))
    samples = [
        (series, (moment + drift * series + 2**63) % 2**64 - 2**63, value)
        for series, run in enumerate(runs)
        for moment, value in zip(moments[: run or None], values, strict=False)
    ]
    return columns(samples)


@given(scraped_together())
def test_series_of_one_shape_come_back_bit_for_bit(given_columns: Columns) -> None:
    unpacked = unpack_samples(pack_samples(*given_columns))
    assert [column.tobytes() for column in unpacked] == [column.tobytes() for column in given_columns]


@pytest.mark.parametrize(
    "bits",
    [
        0x7FF0000000000001,  # a signalling NaN: Prometheus' stale marker is one
        0x7FF0000000000002,
        0xFFF8000000000ABC,  # a quiet one with a payload
        0x8000000000000000,  # -0.0
        0x7FF0000000000000,
        0xFFF0000000000000,
        0x0000000000000001,  # the smallest subnormal
        0x800FFFFFFFFFFFFF,  # the largest, negative
        0x4340000000000001,  # beyond 2**53, where not every integer is a float
    ],
    ids=hex,
)
def test_a_value_on_no_grid_keeps_its_bits_between_neighbours_that_are_on_one(bits: int) -> None:
    odd = np.array([bits], dtype=np.uint64).view(np.float64)
    values = np.concatenate([[1.0, 2.0, 3.0, 4.5, 5.5, 6.5], odd, [7.0], odd])
    given_columns = scraped(3, 3, values)
    assert unpack_samples(pack_samples(*given_columns))[2].tobytes() == values.tobytes()


@given(SAMPLES)
def test_the_same_columns_give_the_same_bytes(samples: list[tuple[int, int, float]]) -> None:
    assert pack_samples(*columns(samples)) == pack_samples(*columns(samples))


@pytest.mark.parametrize("grid", [1.0, 100.0, 1000.0], ids=["whole", "hundredths", "thousandths"])
def test_counters_on_a_grid_take_less_than_two_bytes_a_sample(grid: float) -> None:
    steps = (np.arange(6000, dtype=np.int64) * 2654435761 % 97).reshape(1000, 6)  # irregular, but the same always
    values = (np.cumsum(steps, axis=1) + 1000 * np.arange(1000)[:, None]) / grid
    body = pack_samples(*scraped(1000, 6, values))
    assert len(body) / values.size < 2.0


def test_values_on_no_grid_take_no_more_than_their_own_size() -> None:
    values = np.sqrt(np.arange(6000, dtype=np.float64)).reshape(1000, 6)
    assert len(pack_samples(*scraped(1000, 6, values))) / values.size < 8.0


def test_one_series_on_no_grid_leaves_its_neighbours_small() -> None:
    values = np.cumsum(np.ones((1000, 6)), axis=1)
    all_small = len(pack_samples(*scraped(1000, 6, values)))
    values[500] *= np.pi
    assert len(pack_samples(*scraped(1000, 6, values))) - all_small < 100


def test_unpacked_columns_are_read_only() -> None:
    _, _, values = unpack_samples(pack_samples(*columns([(1, 2, 3.0)])))
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 4.0


@given(st.data())
def test_a_flipped_bit_in_a_body_is_noticed(data: st.DataObject) -> None:
    body = bytearray(pack_samples(*columns([(series, 7, series / 3) for series in range(40)])))
    position = data.draw(st.integers(0, 8 * len(body) - 1))
    body[position // 8] ^= 1 << position % 8
    before = columns([(series, 7, series / 3) for series in range(40)])
    try:
        after = unpack_samples(bytes(body))
    except LogCorrupted:
        return
    # Bits of the frame's header that say nothing about the content may change without harm.
    assert [column.tobytes() for column in after] == [column.tobytes() for column in before]


def test_a_body_that_claims_terabytes_is_refused_before_it_is_unpacked() -> None:
    body = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(300))
    assert body[4] == 0x60, "the frame's descriptor: one segment, a size of two bytes"
    claims = body[:4] + bytes([0xE0]) + (2**40).to_bytes(8, "little") + body[7:]
    with pytest.raises(LogCorrupted, match="a content of 1099511627776 bytes"):
        unpack_samples(claims)


def test_a_truncated_body_is_refused() -> None:
    body = pack_samples(*columns([(1, 2, 3.0)]))
    with pytest.raises(LogCorrupted, match="can't be unpacked"):
        unpack_samples(body[:-5])
