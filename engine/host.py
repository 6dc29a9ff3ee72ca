"""A task that owns long-lived contexts, so that who opens them and who closes them may be different tasks.

In: async context managers (the broker's connection, the stand, collectors). Out: their values, kept open until `leave` or `close`.

Why it is hard: a cancel scope must be left by the task that entered it, in the reverse order. A fixture, a notebook or a synchronous
wrapper enters an environment in one task and leaves it in another. So each context lives in a *resident* task of its own, in a
task group that the host task owns; callers only ask for entering and leaving. When a resident fails, every operation in
progress is cancelled and raises the resident's error instead of waiting for an answer that never comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus

from otel_control_gym.engine.errors import UsageError

__all__ = ("Host", "Resident")

T = TypeVar("T")


class Resident(Generic[T]):
    """A context that is open in its own task; `value` is what entering it gave."""

    def __init__(self, context: AbstractAsyncContextManager[T]) -> None:
        self._context = context
        self._leave = anyio.Event()
        self._left = anyio.Event()
        self.value: T

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Enter, report, wait to be told to leave, leave."""
        try:
            async with self._context as self.value:
                task_status.started()
                await self._leave.wait()
        finally:
            self._left.set()

    async def leave(self) -> None:
        """Leave the context and wait until it is left."""
        self._leave.set()
        await self._left.wait()


class Host:
    """Owner of residents; `start` and `close` may be called from different tasks."""

    def __init__(self) -> None:
        self._residents: list[Resident[Any]] = []
        self._guards: list[anyio.CancelScope] = []
        self._failure: Exception | None = None
        self._stop = anyio.Event()
        self._group: TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the host task.

        Raises: UsageError: it was started before; what was left in it is gone.
        """
        if self._task is not None or self._stop.is_set():
            raise UsageError("the environment was opened before: make another one with `ocg.make`")
        ready = anyio.Event()
        # A task group can't outlive the task that opened it, which is exactly what is needed here, hence a bare task. It is
        # no orphan: `close` waits for it.
        self._task = asyncio.create_task(self._main(ready), name="otel-control-gym host")  # noqa: TID251
        await ready.wait()

    async def _main(self, ready: anyio.Event) -> None:
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                ready.set()
                await self._stop.wait()
                group.cancel_scope.cancel()
        except Exception as failure:  # noqa: BLE001 - a resident's error, raised by `guard` or `close`, whoever is first
            self._failure = failure
        finally:
            self._group = None
            for guard in self._guards:
                guard.cancel()

    async def enter(self, context: AbstractAsyncContextManager[T]) -> Resident[T]:
        """Open a context in a resident task.

        Raises: whatever entering the context raises.
        """
        if self._group is None:
            raise UsageError("the environment is closed: open it with `async with`")
        resident = Resident(context)
        failure: Exception | None = None

        async def run(*, task_status: TaskStatus[None]) -> None:
            nonlocal failure
            entered = False

            class Status:
                def started(self, value: None = None) -> None:
                    nonlocal entered
                    entered = True
                    task_status.started(value)

            try:
                await resident.run(task_status=Status())
            except Exception as error:
                if entered:
                    raise
                # Failing to open is the caller's to handle; it mustn't take the other residents down.
                failure = error
                task_status.started()

        await self._group.start(run)
        if failure is not None:
            raise _bare(failure)
        self._residents.append(resident)
        return resident

    async def leave(self, resident: Resident[Any]) -> None:
        """Close one context."""
        self._residents.remove(resident)
        await resident.leave()

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Cancel the block, and raise the cause, when a resident fails meanwhile."""
        self._raise_failure()
        with anyio.CancelScope() as scope:
            self._guards.append(scope)
            try:
                yield
            finally:
                self._guards.remove(scope)
        if scope.cancelled_caught:
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise _bare(failure)
        if self._group is None:
            raise UsageError("the environment is closed: open it with `async with`")

    async def close(self) -> None:
        """Leave every context in reverse order, then end the host task.

        Raises: a resident's error that no operation has raised before.
        """
        if self._task is None:
            return
        for resident in reversed(self._residents):
            await resident.leave()
        self._residents.clear()
        self._stop.set()
        await asyncio.wait({self._task})
        self._task = None
        if self._failure is not None:
            self._raise_failure()


def _bare(failure: Exception) -> Exception:
    """Return the one error in a task group's exception group: the caller asked for a context, not for a group of tasks."""
    while isinstance(failure, ExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure
