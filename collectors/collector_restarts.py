"""Pods of the stand's OpenTelemetry collector ➜ gaps of what goes through it: while none serves, and when another one begins to.

In: the rows of the namespace's pods, in order. Out: `CollectorGap` of metrics, spans and logs. What a collector holds when it ends is lost
with it: batches, halves of edges, spans that its metrics haven't counted yet. Silence shows that after ten seconds; a restart takes two.

A collector is one Deployment `otel-collector` (the demo chart's name for it), one replica. Pods that were there at the run's first moment
begin nothing. Logs that are read from pods don't go this way; their gap says more than is lost.
"""

from __future__ import annotations

from otel_control_gym.engine.events import CollectorGap, PodTransition

__all__ = ("CollectorRestarts",)

_POD_PREFIX = "otel-collector-"
_SOURCES = ("metrics", "spans", "logs")
_AWAY = "the stand's collector is away"
_ANOTHER = "the stand's collector was restarted: what it held is lost"


class CollectorRestarts:
    """When the stand's collector was away or another one, since the last flush."""

    def __init__(self) -> None:
        self._serving: dict[tuple[str, int], None] = {}  # (UID, restarts) of those that serve now
        self._known: set[tuple[str, int]] = set()  # that have ever served
        self._lost: int | None = None  # when the last one stopped serving; None: one serves, or none ever has
        self._found: list[tuple[int, int, str]] = []

    def see(self, row: PodTransition, *, initial: bool, since: int) -> None:
        """Take a pod's row; `initial`: it was there before the run; `since`: until when everything is told already [ns]."""
        if not row.pod.startswith(_POD_PREFIX):
            return
        identity = (row.uid, row.restart_count)
        serves = row.ready and not row.terminating and row.change != "deleted"
        served_before = bool(self._serving)
        self._serving = {one: None for one in self._serving if one[0] != row.uid}
        if serves:
            self._serving[identity] = None
            if identity not in self._known and self._known and not initial:
                self._found.append((min(since, row.time) if self._lost is None else self._lost, row.time, _ANOTHER))
            elif self._lost is not None:
                self._found.append((self._lost, row.time, _AWAY))
            self._known.add(identity)
            self._lost = None
        elif served_before and not self._serving:
            self._lost = row.time

    def flush(self, now: int) -> list[CollectorGap]:
        """Return the gaps, each of all that goes through a collector, and forget them; one that lasts goes on in the next flush."""
        found, self._found = self._found, []
        if self._lost is not None and self._lost < now:
            found.append((self._lost, now, _AWAY))
            self._lost = now
        return [
            CollectorGap(time=now, source=source, start=start, end=end, reason=reason)
            for start, end, reason in found
            for source in _SOURCES
        ]
