"""Actions of people in an episode that is under way: taken when they come, carried out when time stands still.

In: requests from outside the caller's task. Out: records, once the action was carried out.

What makes it delicate: the stand's time moves only in a step, and nothing may act while it does. So a request that comes between two
steps is carried out at once, under a lock that a step waits for; one that comes during a step waits for the next moment at which the
episode acts anyway. The step lets no request wait beyond its end: it looks once more before it gives the lock back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec

from otel_control_gym.engine.errors import OtelControlGymError
from otel_control_gym.engine.protocols import ActionRecord

__all__ = ("Hands",)

Perform = Callable[[msgspec.Struct, bool], Awaitable[ActionRecord]]


class _Waiting:
    """A request that waits for its turn."""

    def __init__(self, action: msgspec.Struct, truth: bool) -> None:
        self.action, self.truth = action, truth
        self.done = anyio.Event()
        self.record: ActionRecord | None = None
        self.error: OtelControlGymError | None = None


class Hands:
    """The requests of one episode; `perform` carries out an action (and whether it belongs to the truth) at this moment."""

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._lock = (
            anyio.Lock()
        )  # held by a step, or by a request between two steps: only one of them acts on the stand
        self._waiting: deque[_Waiting] = deque()

    async def act(self, action: msgspec.Struct, *, truth: bool) -> ActionRecord:
        """Have an action carried out, and return its record."""
        waiting = _Waiting(action, truth)
        self._waiting.append(waiting)
        if not self._lock.locked():
            async with self._lock:
                await self.serve()
        await waiting.done.wait()
        if waiting.error is not None:
            raise waiting.error
        assert waiting.record is not None
        return waiting.record

    @asynccontextmanager
    async def stepping(self) -> AsyncIterator[None]:
        """Keep requests back while a step is under way, but for the moments at which it calls `serve`."""
        async with self._lock:
            yield
            await self.serve()

    async def serve(self) -> None:
        """Carry out what has come."""
        while self._waiting:
            waiting = self._waiting.popleft()
            try:
                waiting.record = await self._perform(waiting.action, waiting.truth)
            except (
                OtelControlGymError
            ) as error:  # the log can't be written: who asked is told, and the next step meets it, too
                waiting.error = error
            finally:
                waiting.done.set()
