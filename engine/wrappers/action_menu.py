"""Numbers ➜ actions: a menu of (type, target, strength) for learners that choose indices.

In: a run configuration. Out: an `ActionMenu`, fixed for the application: what there is on each of the three axes, which combinations exist,
and the JSON form of one. Pure.

A number can't say everything that a JSON form can: strengths are the four words of the catalogue, a rollout sets one variable, traffic is
shifted to the first other version that gets ready. What is left out is what hardly anything calls, what is protected and what is stateful.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.actuators import ENTRIES
from otel_control_gym.engine.campaigns.candidates import Candidates
from otel_control_gym.engine.errors import UsageError, nearest
from otel_control_gym.engine.settings import Intensity, RunConfig

__all__ = ("ActionMenu", "action_menu")

_NOOP: dict[str, Any] = {"type": "noop"}
_STRENGTHS: tuple[str, ...] = get_args(Intensity)
_TYPES = tuple(entry.type for entry in ENTRIES if entry.action_class == "action" and entry.type != "noop")


class ActionMenu(msgspec.Struct, frozen=True):
    """The axes of a `MultiDiscrete` action and what their combinations mean; type 0 is `noop`, target 0 is none."""

    types: tuple[str, ...]
    targets: tuple[str, ...]  #: services and groups; empty for what has none
    strengths: tuple[str, ...]  #: ignored by types that know none
    makers: dict[tuple[int, int], Callable[[str], dict[str, Any]]]  #: (type, target) ➜ the JSON form, by strength

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many choices each axis has."""
        return len(self.types), len(self.targets), len(self.strengths)

    def action(self, choice: Sequence[int] | npt.NDArray[np.integer]) -> dict[str, Any] | None:
        """Return the JSON form of a choice, or None where the type has no such target."""
        kind, target, strength = (int(index) for index in choice)
        if kind == 0:
            return dict(_NOOP)
        maker = self.makers.get((kind, target))
        return None if maker is None else maker(self.strengths[strength])

    def pairs(self) -> npt.NDArray[np.bool_]:
        """Return [types, targets]: which combinations exist. `noop` takes any target, and does nothing to it."""
        exist = np.zeros(self.sizes[:2], dtype=bool)
        exist[0] = True
        for pair in self.makers:
            exist[pair] = True
        return exist


def action_menu(config: RunConfig, types: Sequence[str] | None = None) -> ActionMenu:
    """Return the menu of an application; `types` leaves only these types of action on it, and `noop`.

    Raises: UsageError: one of `types` is no ordinary action.
    """
    for kind in types or ():
        if kind not in _TYPES:
            raise UsageError(f"{kind!r}: there is no such action for a policy\n  {nearest(kind, _TYPES)}")
    candidates = Candidates(config.public.services, config.workload)
    found = {kind: candidates.actions(kind) for kind in _TYPES if types is None or kind in types}
    known = ["noop", *(kind for kind, makers in found.items() if makers)]
    targets = [""]
    combinations: dict[tuple[int, int], Callable[[str], dict[str, Any]]] = {}
    for kind, makers in found.items():
        for maker in makers:
            target = maker(_STRENGTHS[0]).get("target", "")
            if target not in targets:
                targets.append(target)
            combinations.setdefault((known.index(kind), targets.index(target)), maker)
    return ActionMenu(tuple(known), tuple(targets), _STRENGTHS, combinations)
