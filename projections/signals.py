"""What isn't a sample and still has a number per bucket and service: log records and findings.

In: counts of log records, polls of Coroot, gaps, and who is declared to send log records. Out: columns of `node_features`, [T, N], NaN
where nobody looked: zero is a stream that was up and brought nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.events import CollectorGap
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.log_counts import LogCounts
from otel_control_gym.projections.polls import FindingPolls

__all__ = ("SEVERITY_RANKS", "Signals")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
SEVERITY_RANKS = {
    "critical": 2.0,
    "warning": 1.0,
}  #: `finding_severity` of a service's worst finding; others are 0, as none is


class Signals(msgspec.Struct, frozen=True, eq=False):
    """What the columns are computed of."""

    origin: int
    interval: int  #: finest interval, ns
    nodes: tuple[str, ...]  #: [N]
    logs: LogCounts
    logging: Bool  #: [N] sends log records, and they are seen
    seen: Bool  #: [N] isn't hidden
    polls: FindingPolls
    gaps: Sequence[CollectorGap]  #: of all sources

    def columns(self, buckets: Buckets) -> dict[str, Float]:
        """Return the columns of log records and of findings, each [T, N]."""
        edges = self.origin + buckets.edges * self.interval
        return {**self._logs(buckets, edges), **self._findings(edges[1:])}

    def _logs(self, buckets: Buckets, edges: npt.NDArray[np.int64]) -> dict[str, Float]:
        up = np.ones(buckets.count, bool)
        for gap in self.gaps:
            if gap.source == "logs":
                up &= (gap.start >= edges[1:]) | (gap.end <= edges[:-1])
        known = up[:, None] & self.logging[None, :]
        return {name: np.where(known, counts, np.nan) for name, counts in self.logs.per_bucket(buckets).items()}

    def _findings(self, ends: npt.NDArray[np.int64]) -> dict[str, Float]:
        count, severity = np.full((2, ends.size, len(self.nodes)), np.nan)
        position = {name: number for number, name in enumerate(self.nodes)}
        for row, end in enumerate(ends.tolist()):
            standing = self.polls.standing(end)
            if standing is None:
                continue
            count[row, self.seen] = severity[row, self.seen] = 0.0
            for finding in standing:
                for node in sorted({position[name] for name in finding.services if name in position}):
                    count[row, node] += 1.0
                    rank = SEVERITY_RANKS.get(finding.severity.lower(), 0.0)
                    severity[row, node] = max(severity[row, node], rank)
        return {"findings_open": count, "finding_severity": severity}
