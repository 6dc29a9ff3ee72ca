"""Log records ➜ how many a service sent, per bucket and severity.

In: `LogRow`s in any order. Out: counts on the run's finest grid, summed to buckets of any width. A record counts in the bucket that holds
its own time, [start, end), however late it arrived, for 1 / its sampling probability: what was left out is made up for.

Weights are added as whole millionths (of 2^20), because sums of floats would hang on the order in which records arrive.

Severities are texts, and every SDK has its own (`WARN`, `Warning`, `warning`): they are told by how they begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.events import LogRow
from otel_control_gym.projections.growth import Buckets

__all__ = ("LogCounts", "SeverityClass", "severity_class")

Float = npt.NDArray[np.float64]
SeverityClass: TypeAlias = Literal["other", "warning", "error"]
_CLASSES: tuple[SeverityClass, ...] = ("other", "warning", "error")
_WHOLE = 1 << 20  #: weight of one record
_ERRORS = ("ERR", "FATAL", "CRIT", "SEVERE", "EMERG", "ALERT", "PANIC")


def severity_class(severity: str) -> SeverityClass:
    """Return whether a record of this severity is a warning, an error (or worse), or neither."""
    upper = severity.upper()
    if upper.startswith("WARN"):
        return "warning"
    return "error" if upper.startswith(_ERRORS) else "other"


class LogCounts:
    """Weights of log records per interval of `interval` ns from `origin` on, by service and class of severity."""

    def __init__(self, origin: int, interval: int) -> None:
        self._origin = origin
        self._interval = interval
        self._nodes: Mapping[str, int] = {}
        self._counts = np.zeros((64, 0, len(_CLASSES)), np.int64)  # [intervals, nodes, classes]

    def place(self, names: Iterable[str]) -> None:
        """Set the services that are counted, in the order of the tables; what others send isn't counted."""
        self._nodes = {name: position for position, name in enumerate(names)}
        self._counts = np.zeros((64, len(self._nodes), len(_CLASSES)), np.int64)

    def add(self, rows: Iterable[LogRow]) -> None:
        """Count records; those from before the run aren't its own."""
        for row in rows:
            node, interval = self._nodes.get(row.service), (row.time - self._origin) // self._interval
            if node is None or interval < 0:
                continue
            if interval >= len(self._counts):
                longer = np.zeros((max(2 * len(self._counts), interval + 1), *self._counts.shape[1:]), np.int64)
                longer[: len(self._counts)] = self._counts
                self._counts = longer
            weight = round(_WHOLE / row.sampling_probability)
            self._counts[interval, node, _CLASSES.index(severity_class(row.severity))] += weight

    def per_bucket(self, buckets: Buckets) -> dict[str, Float]:
        """Return log_count, log_warning_count and log_error_count, each [T, N]."""
        first, last = int(buckets.edges[0]), int(buckets.edges[-1])
        found = np.zeros((last - first, *self._counts.shape[1:]), np.int64)
        held = self._counts[first:last]
        found[: len(held)] = held
        shape = (buckets.count, buckets.width, *self._counts.shape[1:])
        summed = found.reshape(shape).sum(axis=1) / _WHOLE
        return {
            "log_count": summed.sum(axis=-1),
            "log_warning_count": summed[..., _CLASSES.index("warning")],
            "log_error_count": summed[..., _CLASSES.index("error")],
        }
