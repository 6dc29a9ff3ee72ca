"""Contexts opened through a host may be left from any task, in reverse order, and their failure reaches who is waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.host import Host


@asynccontextmanager
async def background(name: str, journal: list[str], failing: anyio.Event | None = None) -> AsyncIterator[str]:
    """A context with a task of its own, as a collector is; the task fails when `failing` is set."""

    async def live() -> None:
        if failing is None:
            await anyio.sleep_forever()
        else:
            await failing.wait()
            raise RuntimeError(f"{name} broke")

    async with anyio.create_task_group() as group:
        group.start_soon(live)
        journal.append(f"enter {name}")
        try:
            yield name
        finally:
            journal.append(f"leave {name}")
            group.cancel_scope.cancel()


async def test_contexts_are_left_in_reverse_order_by_another_task() -> None:
    journal: list[str] = []
    host = Host()

    async def open_both() -> None:
        await host.start()
        assert (await host.enter(background("first", journal))).value == "first"
        await host.enter(background("second", journal))

    async with anyio.create_task_group() as group:
        group.start_soon(open_both)
    async with anyio.create_task_group() as group:
        group.start_soon(host.close)
    assert journal == ["enter first", "enter second", "leave second", "leave first"]


async def test_a_context_that_fails_to_open_raises_at_the_caller_and_leaves_the_others_open() -> None:
    class Broken(AbstractAsyncContextManager[None]):
        async def __aenter__(self) -> None:
            raise OSError("port in use")

        async def __aexit__(self, *_: object) -> None:
            pass

    journal: list[str] = []
    host = Host()
    await host.start()
    await host.enter(background("first", journal))
    with pytest.raises(OSError, match="port in use"):
        await host.enter(Broken())
    assert journal == ["enter first"]
    await host.close()


async def test_a_failing_resident_cancels_the_operation_in_progress_and_is_its_error() -> None:
    failing = anyio.Event()
    host = Host()
    await host.start()
    await host.enter(background("collector", [], failing))

    async def operate() -> None:
        async with host.guard():
            failing.set()
            await anyio.sleep_forever()

    with pytest.raises(RuntimeError, match="collector broke"):
        await operate()
    await host.close()


async def test_a_closed_host_refuses_new_contexts() -> None:
    host = Host()
    await host.start()
    await host.close()
    with pytest.raises(UsageError, match="closed"):
        await host.enter(background("late", []))
