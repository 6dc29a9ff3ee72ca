"""The samples of an event as columns, and what is known of their shape.

In: three columns, sorted by (series, time). Out: a `Batch`, which knows where each series begins and whether all of them were sampled at
the same moments. Then its values are a table [series, moments], which is placed, compared and continued in one piece.

Upstream: `engine.packing` unpacks the columns. Downstream: `projections.samples`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.errors import LogCorrupted

__all__ = ("Batch", "batch", "chosen", "merged")

Ints = npt.NDArray[np.int64]


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Samples, sorted by (series, time), at least one; `length` is 0 where series were sampled at different moments."""

    series: npt.NDArray[np.int32]
    times: Ints
    values: npt.NDArray[np.float64]
    starts: npt.NDArray[np.intp]  #: position of each series' first sample
    length: int  #: samples of each series, if all have as many and at the same moments

    @property
    def numbers(self) -> npt.NDArray[np.int32]:
        """The series that occur, ascending."""
        return self.series[self.starts]

    @property
    def moments(self) -> Ints:
        """When all series of a table were sampled."""
        assert self.length, "series that were sampled at different moments"
        return self.times[: self.length]

    @property
    def table(self) -> npt.NDArray[np.float64]:
        """Values [series, moments]."""
        return self.values.reshape(-1, self.length)


def batch(series: npt.NDArray[np.int32], times: Ints, values: npt.NDArray[np.float64]) -> Batch:
    """Return the columns as a batch.

    Raises: LogCorrupted: they aren't sorted by (series, time).
    """
    starts = np.concatenate(([0], np.flatnonzero(series[1:] != series[:-1]) + 1))
    found = Batch(series, times, values, starts, _length(times, np.diff(starts, append=series.size)))
    if found.length:
        in_order = np.all(found.moments[1:] > found.moments[:-1])
    else:
        later = times[1:] > times[:-1]
        later[starts[1:] - 1] = True
        in_order = np.all(later)
    numbers = found.numbers
    if not (in_order and np.all(numbers[1:] > numbers[:-1])):
        raise LogCorrupted("samples of an event aren't sorted by (series, time)")
    return found


def chosen(samples: Batch, mask: npt.NDArray[np.bool_]) -> Batch:
    """Return the samples that a mask [samples] chooses, at least one of them."""
    return samples if mask.all() else batch(samples.series[mask], samples.times[mask], samples.values[mask])


def merged(batches: Sequence[Batch]) -> Batch:
    """Return the samples of batches as one; of a (series, time) that comes twice, the first batch's."""
    series = np.concatenate([each.series for each in batches])
    times = np.concatenate([each.times for each in batches])
    order = np.lexsort((times, series))  # stable: what came first stays first
    series, times = series[order], times[order]
    first = np.append(True, (series[1:] != series[:-1]) | (times[1:] != times[:-1]))
    values = np.concatenate([each.values for each in batches])[order]
    return batch(series[first], times[first], values[first])


def _length(times: Ints, lengths: npt.NDArray[np.intp]) -> int:
    length = int(lengths[0])
    if not (lengths == length).all():
        return 0
    table = times.reshape(-1, length)
    return length if (table == table[0]).all() else 0
