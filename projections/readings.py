"""Readings of the load generator, with their counts continued where it began anew.

In: `WorkloadState` rows as events bring them. Out: the rows in the order of time, and their cumulative counts as arrays. These are kept and
grow with the run: a long run is folded in stretches, and each of them asks.

Upstream: `projections.fold`. Downstream: `projections.demand`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.events import WorkloadState
from otel_control_gym.projections.timelines import Timeline

__all__ = ("Readings",)

Float = npt.NDArray[np.float64]


class Readings(Timeline[WorkloadState]):
    """The load generator's readings in the order of time."""

    def __init__(self) -> None:
        super().__init__(lambda row: (row.state,))
        self._seen: Sequence[WorkloadState] = ()
        self._times = np.zeros(0, np.int64)
        self._raw = np.zeros((3, 0))
        self._continued = np.zeros((3, 0))

    def continued(self) -> tuple[npt.NDArray[np.int64], Float]:
        """Return times [readings] and scheduled, served and failed [3, readings], continued where the load generator began anew."""
        rows = self.all()
        if rows is not self._seen:  # a late one was sorted in: all of it is new
            self._seen = rows
            self._times, self._raw, self._continued = np.zeros(0, np.int64), np.zeros((3, 0)), np.zeros((3, 0))
        known = self._times.size
        if len(rows) > known:
            fresh = rows[known:]
            self._times = np.append(self._times, np.array([row.time for row in fresh], np.int64))
            raw = np.array([(row.scheduled, row.served, row.failed) for row in fresh], np.float64).T
            before = np.concatenate([self._raw[:, -1:] if known else np.zeros((3, 1)), raw[:, :-1]], axis=1)
            began_anew = np.where(raw[0] < before[0], before, 0.0)
            counted = self._continued[:, -1:] - self._raw[:, -1:] if known else np.zeros((3, 1))
            continued = raw + counted + np.cumsum(began_anew, axis=1)
            self._raw = np.append(self._raw, raw, axis=1)
            self._continued = np.append(self._continued, continued, axis=1)
        return self._times, self._continued
