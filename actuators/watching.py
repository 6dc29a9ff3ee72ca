"""What becomes of a change while it is in force: it ends where its pods are replaced, and is there again where it follows them.

In: looks of a procedure. Out: `ActionLapsed` and `ActionResumed`, each with the moment as well as it can be known. When to look is
`lifecycle`'s.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.actuators.attempts import Attempt
from otel_control_gym.actuators.journal import Journal
from otel_control_gym.actuators.moments import span_between
from otel_control_gym.actuators.procedure import Standing, Watched
from otel_control_gym.engine.events import TouchedObject

__all__ = ("Watch",)


class Watch:
    """Tells the journal what changed since an attempt was looked at last."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def look(self, attempt: Attempt, now: int) -> Standing:
        """Log what of the change has ended since the last look, or is there again; return what was seen.

        Raises: CallError: the stand can't be read.
        """
        assert isinstance(attempt.procedure, Watched)
        standing = await attempt.procedure.standing()
        fresh = tuple(name for name in standing.lost if name not in attempt.lost)
        if fresh:
            await self._lose(attempt, msgspec.structs.replace(standing, lost=fresh), attempt.looked, now)
            attempt.lost += fresh
        elif standing.left and not standing.lost and (attempt.lapsed or attempt.lost):
            begin = span_between(attempt.looked, now)
            await self._journal.resumed(attempt.record, places=standing.left, begin=begin, now=now)
            attempt.lost, attempt.lapsed = (), False
        attempt.looked = now
        return standing

    async def made_anew(
        self, attempt: Attempt, standing: Standing, objects: tuple[TouchedObject, ...], now: int
    ) -> None:
        """Log that new objects were made in place of the old; `standing` is what was seen before that.

        Where it still was in force it isn't any more until the new ones work.
        """
        if standing.left:
            await self._lose(attempt, Standing(lost=standing.left, reason="made anew for all pods"), now, now)
        await self._journal.applied(attempt.record, objects, now)
        attempt.lost = ()

    async def _lose(self, attempt: Attempt, lost: Standing, since: int, now: int) -> None:
        attempt.lapsed = not lost.left
        end = span_between(since, now, lost.moment)
        await self._journal.lapsed(attempt.record, lost=lost.lost, left=lost.left, end=end, reason=lost.reason, now=now)
