"""The environment as Gymnasium's: flat float32 observations, `MultiDiscrete` actions, five results of a step.

In: what `ocg.make` takes. Out: a `gymnasium.Env`, which importing this module registers as `ENVIRONMENT_ID`, as Gymnasium expects it of
libraries. Several at once: `engine.wrappers.vectorised`.

What is lost on the way, because a box of numbers can't hold it: events, logs, traces and findings of an observation, most parameters of
actions, and the difference between unknown and zero, which the masks behind the numbers keep. The log keeps all of it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.assembly import make
from otel_control_gym.engine.env import Info
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.engine.synchronous import SynchronousEnv, synchronous
from otel_control_gym.engine.wrappers.action_menu import action_menu
from otel_control_gym.projections.schemas import EDGE_NUMBERS, NODE_NUMBERS

try:
    import gymnasium
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("Gymnasium isn't installed\n  pip install 'otel-control-gym[gymnasium]'") from error

__all__ = ("ENVIRONMENT_ID", "TwinEnv", "flat")

ENVIRONMENT_ID = "otel_control_gym/Twin-v0"

_LARGEST = float(np.finfo(np.float32).max)
_SEEDS = 2**31

Flat = npt.NDArray[np.float32]


def flat(observation: Observation) -> Flat:
    """Return an observation as one row: nodes [T, N, F], edges [T, E, G], offered rate [T], then a mask for each of these; 0 where unknown.

    The units are the observation's own, so numbers of bytes stand beside ratios: learners want them scaled (`NormalizeObservation`).
    """
    numbers = np.concatenate(
        [part.ravel() for part in (observation.nodes, observation.edges, observation.offered_rate)]
    )
    known = np.isfinite(numbers)
    row = np.concatenate([np.where(known, numbers, 0.0), known])
    clipped: Flat = np.clip(row, -_LARGEST, _LARGEST).astype(np.float32)
    return clipped


class TwinEnv(gymnasium.Env[Flat, npt.NDArray[np.int64]]):
    """A twin behind Gymnasium's API.

    An action is [type, target, strength], indices into `menu`; one whose type has no such target does nothing, and `info["action_exists"]`
    says so. `reset` without a seed draws one from the generator that the last seed made.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        target: str | Path | RunConfig = "small-core",
        *,
        types: Sequence[str] | None = None,
        policy_version: str = "gymnasium",
        **options: Any,
    ) -> None:
        """`target`, `policy_version` and `options` are those of `ocg.make`; `types` are the types of action on the menu (default: all).

        Raises: ConfigurationError: the configuration can't be run. UsageError: an unknown type of action.
        """
        env = make(target, policy_version=policy_version, **options)
        public = env.config.public
        self.menu = action_menu(env.config, types)
        self._driven = synchronous(env)
        self._opened: SynchronousEnv | None = None
        self._closed = False
        times = public.granularity.observation_window_seconds // public.granularity.observation_bucket_seconds
        services = public.services
        numbers = times * (len(services.services) * len(NODE_NUMBERS) + len(services.edges) * len(EDGE_NUMBERS) + 1)
        lowest = np.concatenate([np.full(numbers, -_LARGEST, np.float32), np.zeros(numbers, np.float32)])
        highest = np.concatenate([np.full(numbers, _LARGEST, np.float32), np.ones(numbers, np.float32)])
        self.observation_space = gymnasium.spaces.Box(lowest, highest, dtype=np.float32)
        self.action_space = gymnasium.spaces.MultiDiscrete(list(self.menu.sizes))

    @property
    def run_dir(self) -> Path:
        """See `Env.run_dir`."""
        return self._driven.run_dir

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return the masks of type, target and strength, one after the other, as masked learners ask for them.

        Masks of single axes can't say which pairs exist: `menu.pairs()` does.
        """
        pairs = self.menu.pairs()
        return np.concatenate([pairs.any(axis=1), pairs.any(axis=0), np.ones(self.menu.sizes[2], dtype=bool)])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Flat, dict[str, Any]]:
        """Begin an episode: see `Env.reset`. There are no options.

        Raises: UsageError: an option, or the environment is closed.
        """
        super().reset(seed=seed)
        if options:
            raise UsageError(f"options = {options!r}: reset knows none; what a run is like is said when it is made")
        drawn = int(self.np_random.integers(_SEEDS)) if seed is None else seed
        observation = self._open().reset(drawn)
        return flat(observation), {"action_masks": self.action_masks()}

    def step(self, action: npt.NDArray[np.int64]) -> tuple[Flat, SupportsFloat, bool, bool, dict[str, Any]]:
        """Act and let one control step pass: see `Env.step`."""
        asked = self.menu.action(action)
        observation, reward, _, info = self._open().step({"type": "noop"} if asked is None else asked)
        told = _told(info, exists=asked is not None) | {"action_masks": self.action_masks()}
        return flat(observation), reward, info["terminated"], info["truncated"], told

    def close(self) -> None:
        """End the episode, write its dataset, and let go of the twin."""
        opened, self._opened, self._closed = self._opened, None, True
        if opened is not None:
            opened.__exit__(None, None, None)

    def _open(self) -> SynchronousEnv:
        if self._closed:
            raise UsageError("the environment is closed: make another one")
        if self._opened is None:
            self._opened = self._driven.__enter__()
            # A script may end without `close`; the interpreter would then wait for ever for a loop that stands still. It waits for
            # this thread before that, because it is no daemon.
            threading.Thread(target=_close_at_the_end, args=(weakref.ref(self),)).start()
        return self._opened


def _close_at_the_end(env: weakref.ref[TwinEnv]) -> None:
    """Wait for the end of the main thread, then close the environment if it still is."""
    threading.main_thread().join()
    forgotten = env()
    if forgotten is not None:
        forgotten.close()


def _told(info: Info, *, exists: bool) -> dict[str, Any]:
    """Return what of a step's info is numbers and texts, and the same whenever the same happens: no ids."""
    record = info["action"]
    return {
        "action_exists": exists,
        "action_status": "" if record is None else record.status,
        "action_reason": "" if record is None else record.reason,
        "done_reason": info["done_reason"] or "",
        "log_sequence": info["log_sequence"],
        **{f"reward/{name}": value for name, value in info["reward_components"].items()},
    }


gymnasium.register(  # an episode ends by itself, so no time limit is wrapped around it
    ENVIRONMENT_ID,
    entry_point=f"{__name__}:TwinEnv",
    vector_entry_point=f"{__name__.rpartition('.')[0]}.vectorised:TwinVectorEnv",
)
