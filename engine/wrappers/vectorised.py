"""Several twins at once behind `gymnasium.vector`: each in a process of its own, all steps at the same time.

In: what `TwinEnv` takes, and how many. Out: a `gymnasium.vector.VectorEnv`; environment i gives bit for bit what it would give alone.

Why processes, although the kernel lets go of Python's lock while it simulates: it has a tenth of a step's processor time (5 of 55 ms,
small-core at 50 requests/s, measured); the rest is HTTP and JSON, which one process does for one twin at a time. So only processes can
gain with every processor, and one that dies takes no other along. Where there are no free processors that doesn't pay: on two cores that
five others shared, a step of one of two twins took 89 ms one after the other, 60 ms in threads and 125 ms in processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.engine.wrappers.gymnasium import TwinEnv

import gymnasium.vector  # isort: skip - the sentence about what is missing comes from the module above

__all__ = ("TwinVectorEnv",)


class TwinVectorEnv(gymnasium.vector.AsyncVectorEnv):
    """`num_envs` twins; their runs lie in one data directory and share its broker.

    An environment whose episode is over is reset by the step after, whose action it ignores (Gymnasium's `NEXT_STEP`). Leave it by `close`:
    that ends the episodes in order. Processes are spawned, so a script has to keep its own work under `if __name__ == "__main__":`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        target: str | Path | RunConfig = "small-core",
        *,
        types: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        """`target`, `types` and `options` are those of `TwinEnv`; its errors are raised here, before a process is started."""
        one = partial(TwinEnv, target, types=types, **options)
        super().__init__([one] * num_envs, context="spawn")
