"""What has been told of findings: each poll's findings ➜ those that are news.

In: everything that a poll found. Out: findings that are new or changed. An incident's figures move with every poll; that alone isn't news.

- Incidents and alerts carry times of their own. A check or an edge has none: it began at the poll that first saw it and is resolved at the
  poll that doesn't see it any more; if it comes back it is another finding, whose key is numbered.
- An incident keeps the figures of its worst poll; they are told anew when its confidence has risen by a quarter.
- A cause that was suggested stays until another one is.

Pure but for its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from otel_control_gym.engine.events import Finding

__all__ = ("FindingBook",)

_TIMELESS = ("check", "edge")
_RISE = 0.25  #: of an incident's confidence, that is worth telling


class FindingBook:
    """The findings of one run."""

    def __init__(self) -> None:
        self._told: dict[str, Finding] = {}
        self._standing: dict[str, Finding] = {}  # timeless ones that last, by the key that the poll gives them
        self._returns: dict[str, int] = {}

    def news(self, findings: Sequence[Finding], now: int) -> tuple[Finding, ...]:
        """Return what is to be told of a poll at `now` [ns], by time and key."""
        timed = [self._merged(finding) for finding in findings if finding.source not in _TIMELESS]
        present = timed + self._followed([finding for finding in findings if finding.source in _TIMELESS], now)
        news = [finding for finding in present if self._is_news(finding)]
        self._told |= {finding.key: finding for finding in news}
        return tuple(sorted(news, key=lambda finding: (finding.time, finding.key)))

    def _merged(self, finding: Finding) -> Finding:
        """Return an incident or alert with what was worse, or better known, when it was told."""
        told = self._told.get(finding.key)
        if told is None:
            return finding
        cause = finding.suggested_cause or told.suggested_cause
        worse = finding if finding.confidence >= told.confidence else told
        return msgspec.structs.replace(
            finding, confidence=worse.confidence, text=worse.text, symptom=worse.symptom, suggested_cause=cause
        )

    def _followed(self, findings: Sequence[Finding], now: int) -> list[Finding]:
        """Return the checks and edges of a poll as they have been since they began, and those that are over."""
        seen = {finding.key: finding for finding in findings}
        over = [
            msgspec.structs.replace(finding, resolved=now) for key, finding in self._standing.items() if key not in seen
        ]
        lasting = {}
        for key, finding in seen.items():
            before = self._standing.get(key)
            if before is None:
                number = self._returns[key] = self._returns.get(key, 0) + 1
                lasting[key] = finding if number == 1 else msgspec.structs.replace(finding, key=f"{key}#{number}")
            else:
                lasting[key] = msgspec.structs.replace(finding, time=before.time, key=before.key)
        self._standing = lasting
        return [*lasting.values(), *over]

    def _is_news(self, finding: Finding) -> bool:
        told = self._told.get(finding.key)
        if told is None or finding.confidence >= told.confidence + _RISE:
            return True
        return msgspec.structs.replace(finding, text=told.text, confidence=told.confidence) != told
