"""Running a coroutine so that Ctrl-C and SIGTERM end it in order.

asyncio answers Ctrl-C by cancelling the main task, wherever it is, through every shield of anyio. Here the signal cancels a scope
instead, which shields hold off: an append to the log that has begun is carried through, and leaving the environment still aborts the
run in order. After the first signal the default handlers are back, so that a second Ctrl-C ends what can't end itself.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio
from anyio.abc import TaskStatus

__all__ = ("run_interruptibly",)

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


def run_interruptibly(function: Callable[[*Arguments], Awaitable[Result]], *arguments: *Arguments) -> Result:
    """Run `function(*arguments)` in a new event loop and return its result.

    Raises: KeyboardInterrupt: SIGINT or SIGTERM came; what the function had open was left in order.
    """
    return anyio.run(_interruptible, function, arguments, backend_options={"use_uvloop": True})


async def _interruptible(function: Callable[[*Arguments], Awaitable[Result]], arguments: tuple[*Arguments]) -> Result:
    results: list[Result] = []
    async with anyio.create_task_group() as group:
        await group.start(_cancel_on_signal, group.cancel_scope)
        results.append(await function(*arguments))
        group.cancel_scope.cancel()
    if not results:
        raise KeyboardInterrupt
    return results[0]


async def _cancel_on_signal(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return
