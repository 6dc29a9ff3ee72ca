"""`ocg.synchronous(env)`: the environment without `await`, for scripts and notebooks.

An event loop in a thread of its own drives the environment; every call waits for its answer. Thin on purpose: what a call means is
said in `engine.env`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal

from otel_control_gym.engine.env import Env, Info
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import RunConfig

__all__ = ("SynchronousEnv", "synchronous")


class SynchronousEnv(AbstractContextManager["SynchronousEnv"]):
    """An `Env` whose methods block; use it as a context manager."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._stack: ExitStack | None = None
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> SynchronousEnv:
        """Start the loop's thread and open the environment."""
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(self._env))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the environment and end the thread."""
        assert self._stack is not None
        self._portal = None
        self._stack.__exit__(kind, error, trace)

    def _loop(self) -> BlockingPortal:
        if self._portal is None:
            raise UsageError("the environment is closed: open it with `with`")
        return self._portal

    @property
    def run_dir(self) -> Path:
        """See `Env.run_dir`."""
        return self._env.run_dir

    def reset(self, seed: int | None = None, config: str | Path | RunConfig | None = None) -> Observation:
        """See `Env.reset`."""
        return self._loop().call(partial(self._env.reset, seed, config))

    def observe(self, window: int | None = None, granularity: int | None = None) -> Observation:
        """See `Env.observe`."""
        return self._loop().call(partial(self._env.observe, window, granularity))

    def step(
        self,
        action: msgspec.Struct | dict[str, Any],
        dt: int | None = None,
        *,
        propensity: float | None = None,
        alternatives: Sequence[dict[str, Any]] | None = None,
    ) -> tuple[Observation, float, bool, Info]:
        """See `Env.step`."""
        return self._loop().call(partial(self._env.step, action, dt, propensity=propensity, alternatives=alternatives))


def synchronous(env: Env) -> SynchronousEnv:
    """Return the same environment without `await`: `with ocg.synchronous(ocg.make("small-core")) as env: ...`."""
    return SynchronousEnv(env)
