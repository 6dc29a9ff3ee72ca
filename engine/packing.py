"""Columns of numbers ⇄ bytes: delta-coded byte planes under zstd, bit-exact for every float64.

In: the three columns of a batch of samples (series number, time, value), series by series. Out: one compressed body of
about one byte a sample, and the same columns again, bit for bit (NaN payloads, -0.0 and infinities included).

Why not zstd alone: the eight bytes of a float look random to it. So each *run* of values (the samples of one series) is
held as integers on the coarsest decimal grid that gives its floats back exactly (most counters are whole numbers, most
durations lie on 0.01 or 0.001); a run on no grid keeps its bit patterns. Integers become differences, signs move to the
lowest bit, and byte k of all values lies together: the high planes are zeros, and what is left is small. The first
values of all runs are a column of their own: they jump from series to series and would fill their neighbours' planes.

Pure: numpy in, bytes out, nothing per sample in Python. Downstream: `engine.codec` makes event bodies of it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from otel_control_gym.engine.errors import LogCorrupted

__all__ = ("decompress", "pack_samples", "unpack_samples")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LEVEL = 3  #: of zstd; level 1 is 10 % faster in all and 10 to 20 % larger, level 6 is no smaller and half as fast
GRIDS = (1.0, 1e2, 1e3, 1e6, 1e9)  #: values are k / grid with an integer k; part of the format, only ever appended to
CONTENT_BYTES = 2**30  #: of one event, at most
RAW = len(GRIDS)  #: class of a run on no grid
_EXACT = float(2**53)  #: integers up to here are exact in a float64
_WIDTH = 8


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    """The body before compression; planes of integer columns, lowest byte first, all-zero high planes left out."""

    rows: int
    series: bytes
    times: bytes
    classes: bytes  #: one per run: index into GRIDS, or RAW
    groups: tuple[tuple[int, bytes, bytes], ...]  #: (class, first values, differences) of each class that occurs


def pack_samples(series: npt.NDArray[np.int32], times: Ints, values: Floats) -> bytes:
    """Return the body for three columns of equal length; smallest when they lie series by series, in time order."""
    assert series.shape == times.shape == values.shape, "columns of unequal length"
    assert series.ndim == 1, "columns have one axis"
    assert times.dtype == np.int64, "times are nanoseconds in int64"
    assert values.dtype == np.float64, "values are float64"
    values = np.ascontiguousarray(values)
    starts = _run_starts(series)
    classes = _classes(values, starts)
    lengths = np.diff(starts, append=len(values))
    per_sample = np.repeat(classes, lengths)
    is_first = np.zeros(len(values), dtype=np.bool_)
    is_first[starts] = True
    groups = []
    for kind in range(RAW + 1):
        chosen = per_sample == kind
        if chosen.any():
            groups.append((kind, *_pack_runs(_to_integers(values[chosen], kind), is_first[chosen])))
    packed = _Packed(
        rows=len(values),
        series=_planes(_differences(series.astype(np.int64))),
        times=_planes(_differences(times)),
        classes=classes.tobytes(),
        groups=tuple(groups),
    )
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(msgspec.msgpack.encode(packed))


def unpack_samples(body: bytes) -> tuple[npt.NDArray[np.int32], Ints, Floats]:
    """Return the columns (series, times, values) of a body, read-only.

    Raises: LogCorrupted: the body isn't one that `pack_samples` made.
    """
    try:
        packed = msgspec.msgpack.decode(decompress(body), type=_Packed)
        numbers, lengths = _unpack_numbers(packed)
        series = np.repeat(numbers, lengths)
        times = _unpack_times(packed, lengths)
        values = _unpack_values(packed, lengths)
    except (zstandard.ZstdError, msgspec.MsgspecError, ValueError, IndexError) as error:
        raise LogCorrupted(f"a batch of samples can't be unpacked: {error}") from error
    for column in (series, times, values):
        column.flags.writeable = False
    return series, times, values


def decompress(body: bytes) -> bytes:
    """Return the content of a zstd frame that knows its size.

    Raises: ValueError: it doesn't, or claims a size that no event has (a flipped bit would ask for terabytes). zstandard.ZstdError.
    """
    size = zstandard.frame_content_size(body)
    if not 0 <= size <= CONTENT_BYTES:
        raise ValueError(f"a content of {size} bytes; an event has at most {CONTENT_BYTES}")
    return zstandard.ZstdDecompressor().decompress(body)


def _run_starts(series: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return the index of each run's first sample; a run is a stretch of one series number."""
    if len(series) == 0:
        return np.zeros(0, dtype=np.intp)
    return np.concatenate(([0], np.flatnonzero(series[1:] != series[:-1]) + 1))


def _classes(values: Floats, starts: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
    """Return for each run the coarsest grid that gives all of its floats back, or RAW."""
    classes = np.full(len(starts), RAW, dtype=np.uint8)
    if len(starts) == 0:
        return classes
    lengths = np.diff(starts, append=len(values))
    undecided = np.ones(len(starts), dtype=np.bool_)
    for kind in range(RAW):
        samples = np.repeat(undecided, lengths)
        exact = np.zeros(len(values), dtype=np.bool_)
        exact[samples] = _is_on_grid(values[samples], kind)
        fits = np.logical_and.reduceat(exact, starts)
        classes[fits] = kind
        undecided &= ~fits
        if not undecided.any():
            break
    return classes


def _is_on_grid(values: Floats, kind: int) -> npt.NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(values * GRIDS[kind])
        inside = np.abs(scaled) < _EXACT  # false for NaN and infinities
        restored = np.where(inside, scaled, 0.0).astype(np.int64) / GRIDS[kind]
    exact: npt.NDArray[np.bool_] = inside & (restored.view(np.int64) == values.view(np.int64))
    return exact


def _to_integers(values: Floats, kind: int) -> Ints:
    if kind == RAW:
        return values.view(np.int64)
    return np.rint(values * GRIDS[kind]).astype(np.int64)


def _to_floats(integers: Ints, kind: int) -> Floats:
    if kind == RAW:
        return integers.view(np.float64)
    return integers / GRIDS[kind]


def _pack_runs(integers: Ints, is_first: npt.NDArray[np.bool_]) -> tuple[bytes, bytes]:
    """Return the planes of the runs' first values and of the differences within runs."""
    steps = _differences(integers)[~is_first]
    return _planes(_differences(integers[is_first])), _planes(steps)


def _unpack_numbers(packed: _Packed) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """Return the series number and the length of each run: only where a run begins is there a difference to be read."""
    planes = _as_planes(packed.series, packed.rows)
    begins = np.bitwise_or.reduce(planes, axis=0, initial=0)
    begins[:1] = 1
    starts = np.flatnonzero(begins)
    numbers = _sums(_unplane(np.ascontiguousarray(planes[:, starts]))).astype(np.int32)
    return numbers, np.diff(starts, append=packed.rows)


def _unpack_times(packed: _Packed, lengths: npt.NDArray[np.intp]) -> Ints:
    """Return the times; where all runs were scraped at the same moments, those are computed once."""
    planes = _as_planes(packed.times, packed.rows)
    runs, length = len(lengths), _common(lengths)
    if runs > 2 and length:
        grid = planes.reshape(len(planes), runs, length)
        if np.array_equal(grid[:, 2:], np.broadcast_to(grid[:, 1:2], grid[:, 2:].shape)):
            first_two = _sums(_unplane(np.ascontiguousarray(grid[:, :2].reshape(len(planes), 2 * length)))).reshape(
                2, length
            )
            times = np.empty((runs, length), np.int64)
            times[0] = first_two[0]
            drift = first_two[1:, -1] - first_two[:1, -1]  # from a run to the next; wraps around as an array does
            np.add(first_two[1], drift * np.arange(runs - 1)[:, None], out=times[1:])
            return times.reshape(-1)
    return _sums(_unplane(planes))


def _unpack_values(packed: _Packed, lengths: npt.NDArray[np.intp]) -> Floats:
    classes = np.frombuffer(packed.classes, dtype=np.uint8)
    if len(classes) != len(lengths) or [kind for kind, _, _ in packed.groups] != sorted(set(packed.classes)):
        raise ValueError("the groups of values aren't those that the runs name")
    if len(packed.groups) == 1:
        ((kind, firsts, steps),) = packed.groups
        return _unpack_group(kind, firsts, steps, lengths)
    values = np.empty(packed.rows, dtype=np.float64)
    length = _common(lengths)
    for kind, firsts, steps in packed.groups:
        chosen = classes == kind
        group = _unpack_group(kind, firsts, steps, lengths[chosen])
        # Moved as integers: a float that passes through a processor may lose the payload of its NaN.
        if length:
            values.view(np.int64).reshape(-1, length)[chosen] = group.view(np.int64).reshape(-1, length)
        else:
            values.view(np.int64)[np.repeat(chosen, lengths)] = group.view(np.int64)
    return values


def _unpack_group(kind: int, firsts: bytes, steps: bytes, lengths: npt.NDArray[np.intp]) -> Floats:
    """Return the values of the runs of one class."""
    rows = int(lengths.sum())
    heads = _sums(_unplane(_as_planes(firsts, len(lengths))))
    growth = _unplane(_as_planes(steps, rows - len(lengths)))
    length = _common(lengths)
    if length:
        table = np.empty((len(lengths), length), dtype=np.int64)
        table[:, 0] = heads
        table[:, 1:] = growth.reshape(len(lengths), length - 1)
        np.cumsum(table, axis=1, out=table)
        return _to_floats(table.reshape(-1), kind)
    # One cumulative sum over all runs, from which each run's own offset is then taken.
    starts = np.cumsum(lengths) - lengths
    within = np.ones(rows, dtype=np.bool_)
    within[starts] = False
    integers = np.zeros(rows, dtype=np.int64)
    integers[within] = growth
    np.cumsum(integers, out=integers)
    integers += np.repeat(heads - integers[starts], lengths)
    return _to_floats(integers, kind)


def _common(lengths: npt.NDArray[np.intp]) -> int:
    """Return the length that all runs have; 0 if they differ, or there are none."""
    return int(lengths[0]) if len(lengths) and (lengths == lengths[0]).all() else 0


def _differences(integers: Ints) -> Ints:
    """Return the first value followed by each value's growth over its neighbour, wrapping around at 64 bits."""
    differences = integers.copy()
    differences[1:] -= integers[:-1]
    return differences


def _sums(differences: Ints) -> Ints:
    return np.cumsum(differences, dtype=np.int64)


def _planes(integers: Ints) -> bytes:
    """Return byte k of all values together, for each k up to the highest that isn't all zero; the sign is bit 0."""
    folded = (integers << 1) ^ (integers >> 63)
    width = (int(np.bitwise_or.reduce(folded.view(np.uint64), initial=np.uint64(0))).bit_length() + 7) // 8
    return np.ascontiguousarray(folded.astype("<i8").view(np.uint8).reshape(-1, _WIDTH)[:, :width].T).tobytes()


def _as_planes(planes: bytes, rows: int) -> npt.NDArray[np.uint8]:
    """Return planes as an array [width, rows], lowest byte first.

    Raises: ValueError: they aren't whole.
    """
    width, rest = divmod(len(planes), rows) if rows else (0, len(planes))
    if rest or width > _WIDTH:
        raise ValueError(f"{len(planes)} bytes aren't whole planes of {rows} values")
    return np.frombuffer(planes, dtype=np.uint8).reshape(width, rows)


def _unplane(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.signedinteger[Any]]:
    """Return the integers of planes [width, rows], in the narrowest type that holds them."""
    if len(planes) == 0:
        return np.zeros(planes.shape[1], np.int8)
    parts: list[npt.NDArray[np.unsignedinteger[Any]]] = list(planes)
    while len(parts) > 1:  # neighbours are joined: two bytes to 16 bits, two of these to 32, ...
        bits = 8 * parts[0].itemsize
        wider = np.dtype(f"u{2 * parts[0].itemsize}")
        joined = []
        for low, high in zip(parts[0::2], [*parts[1::2], None], strict=False):
            whole = low.astype(wider)
            if high is not None:
                whole |= high.astype(wider) << wider.type(bits)
            joined.append(whole)
        parts = joined
    (folded,) = parts
    one = folded.dtype.type(1)
    signs = (folded & one).view(f"i{folded.itemsize}")
    np.negative(signs, out=signs)
    signs ^= (folded >> one).view(signs.dtype)
    return signs
