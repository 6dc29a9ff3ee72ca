"""Native histograms ➜ series of plain numbers, as the log keeps them.

In: the `histograms` of a series in Prometheus' answer: at each moment count, sum and the buckets that aren't empty, each with its bounds.
Out: the same numbers as cumulative series: `<name>_count`, `<name>_sum`, and `<name>_bucket` for every bucket that was ever seen, with
its bounds as labels (`engine.metric_selectors.NATIVE_RULE`, ...).

Nothing is digested: bounds stay the text that Prometheus wrote, counts are the histogram's own (of one bucket, not of all below), so what
was answered can be rebuilt from the log to the bit. Prometheus leaves empty buckets out of its answers; here they are 0, once the bucket is
known: so a restart shows as a fall in each of them, although a restarted histogram leaves most of them out.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.metric_selectors import NATIVE_LOWER, NATIVE_RULE, NATIVE_UPPER

__all__ = ("NativeHistograms", "NativeSeries")

_MILLISECOND = 1_000_000
_Bucket = tuple[int, str, str, str]  # rule, lower bound, upper bound, count

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class _Histogram(msgspec.Struct, gc=False):
    count: str
    sum: str
    buckets: list[_Bucket] = []


_decoder = msgspec.json.Decoder(list[tuple[float, _Histogram]])


class NativeSeries(msgspec.Struct, frozen=True, eq=False):
    """One of the series that a native histogram becomes."""

    suffix: str  #: after the histogram's name
    labels: dict[str, str]  #: besides the histogram's
    times: Ints  #: [T] ns
    values: Floats  #: [T]


class NativeHistograms:
    """Splits the histograms of one Prometheus; remembers which buckets each of them has had."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, dict[tuple[int, str, str], None]] = {}

    def split(self, key: bytes, encoded: msgspec.Raw) -> Iterator[NativeSeries]:
        """Yield the series of a histogram in a stable order: count, sum, buckets as they were first seen.

        Args:
            key: whose histogram it is.
            encoded: `[[seconds, {"count": "...", "sum": "...", "buckets": [[rule, "lower", "upper", "count"], ...]}], ...]`.

        Raises: ValueError: something isn't a number, or not of that shape.
        """
        samples = _decoder.decode(encoded)
        if not samples:
            return
        times = np.rint(np.array([seconds for seconds, _ in samples]) * 1000.0).astype(np.int64) * _MILLISECOND
        yield NativeSeries("_count", {}, times, np.array([float(found.count) for _, found in samples]))
        yield NativeSeries("_sum", {}, times, np.array([float(found.sum) for _, found in samples]))
        known = self._buckets.setdefault(key, {})
        for _, found in samples:
            known.update(dict.fromkeys((rule, lower, upper) for rule, lower, upper, _ in found.buckets))
        columns = {bucket: column for column, bucket in enumerate(known)}
        counts = np.zeros((len(known), len(samples)))
        for row, (_, found) in enumerate(samples):
            for rule, lower, upper, count in found.buckets:
                counts[columns[rule, lower, upper], row] = float(count)
        for (rule, lower, upper), values in zip(known, counts, strict=True):
            labels = {NATIVE_RULE: str(rule), NATIVE_LOWER: lower, NATIVE_UPPER: upper}
            yield NativeSeries("_bucket", labels, times, values)
