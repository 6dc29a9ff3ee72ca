"""What a source didn't give: gaps, noted as reasons when they happen and dated when the next barrier tells the time."""

from __future__ import annotations

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import CollectorGap

__all__ = ("SILENCE", "Gaps")

SILENCE = 10 * SECOND  #: of spans, after which nobody is just collecting a batch any more: an SDK's has five seconds


class Gaps:
    """The gaps of one source since the last flush. `since` is the last moment up to which the source was read."""

    def __init__(self, source: str, since: int) -> None:
        self.source = source
        self.since = since
        self._found: list[tuple[int, int, str]] = []

    def read_up_to(self, moment: int, *reasons: str) -> None:
        """Note that the source was asked up to `moment`; with reasons: in vain, or in part."""
        for reason in reasons:
            self._found.append((self.since, moment, reason))
        self.since = moment

    def flush(self, now: int) -> list[CollectorGap]:
        """Return the gaps as events, and forget them."""
        found, self._found = self._found, []
        return [
            CollectorGap(time=now, source=self.source, start=start, end=end, reason=reason)
            for start, end, reason in found
        ]
