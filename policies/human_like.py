"""An operator who is a person: with things to do, an eye on the service level, and hands that are late, repeat and err.

At each of the set moments something of the menu is to be done; besides, the operator notices when the entry service's errors or latency
have been bad for two buckets on end, and then takes something of the menu that concerns a service whose errors or latency stand out.
Between intention and deed:

- late: the deed comes 0 to 3 steps after the intention
- hesitant: with a chance of 1/5 it is put off once more, by 2 steps
- mistaken: with a chance of 1/6 it is something else of the menu
- repeated: with a chance of 1/4 the same is done again in the step after

Public: nothing is known here but observations. Draws are keyed by (seed, step).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.randomness import derive_seed, draw_bits, draw_uniform
from otel_control_gym.policies.scripted import NOOP, Choice

__all__ = ("HumanLikePolicy",)

_LATE_STEPS, _PUT_OFF_STEPS = 3, 2
_HESITANT, _MISTAKEN, _REPEATED = 1 / 5, 1 / 6, 1 / 4
_NOTICED_BUCKETS = 2
_PATIENCE_STEPS = 6  #: after a deed, before a bad level is taken up again


class HumanLikePolicy:
    """Does things of `menu` at about `moments` [s of control], and when `entry` is seen to be bad."""

    version = "human-like-1"
    information: Literal["public", "privileged"] = "public"

    def __init__(
        self,
        menu: Sequence[dict[str, Any]],
        moments: Iterable[int],
        *,
        entry: str,
        latency_ms: float,
        error_ratio: float,
        seed: int,
    ) -> None:
        """`latency_ms` (mean) and `error_ratio` are what the operator takes for bad at the entry service."""
        self._menu = tuple(menu)
        self._moments = frozenset(moments)
        self._entry, self._latency_ms, self._error_ratio = entry, latency_ms, error_ratio
        self._seed = derive_seed(seed, "policy/human-like")
        self._due: dict[int, dict[str, Any]] = {}  #: step -> deed
        self._calm_until = 0

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:
        """Return the deed that is due now, or `noop`; what is intended now comes later."""
        if self._menu and seconds in self._moments:
            self._intend(step, self._drawn("task", step, self._menu))
        elif self._menu and step >= self._calm_until and self._is_bad(observation):
            self._calm_until = step + _PATIENCE_STEPS
            self._intend(step, self._against(observation, step))
        return Choice(action=self._due.pop(step, NOOP))

    def _intend(self, step: int, deed: dict[str, Any]) -> None:
        if self._share("mistaken", step) < _MISTAKEN:
            deed = self._drawn("mistake", step, self._menu)
        when = step + draw_bits(derive_seed(self._seed, "late"), step) % (_LATE_STEPS + 1)
        if self._share("hesitant", step) < _HESITANT:
            when += _PUT_OFF_STEPS
        self._due.setdefault(when, deed)
        if self._share("repeated", step) < _REPEATED:
            self._due.setdefault(when + 1, deed)

    def _against(self, observation: Observation, step: int) -> dict[str, Any]:
        """Return something that concerns the service that stands out, if the menu has it, else anything."""
        errors = _last(observation, "error_ratio")
        latency = _last(observation, "latency_mean_ms")
        score = np.nan_to_num(errors) * 1000.0 + np.nan_to_num(latency)
        for position in np.argsort(-score, kind="stable").tolist():
            fitting = [deed for deed in self._menu if deed.get("target") == observation.node_names[position]]
            if fitting:
                return self._drawn("remedy", step, fitting)
        return self._drawn("remedy", step, self._menu)

    def _is_bad(self, observation: Observation) -> bool:
        if self._entry not in observation.node_names:
            return False
        node = observation.node_names.index(self._entry)
        names = observation.node_features
        recent = observation.nodes[-_NOTICED_BUCKETS:, node]
        errors = recent[:, names.index("error_ratio")] > self._error_ratio
        slow = recent[:, names.index("latency_mean_ms")] > self._latency_ms
        return bool(np.all(errors | slow))

    def _drawn(self, purpose: str, step: int, options: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return options[draw_bits(derive_seed(self._seed, purpose), step) % len(options)]

    def _share(self, purpose: str, step: int) -> float:
        return draw_uniform(derive_seed(self._seed, purpose), step)


def _last(observation: Observation, feature: str) -> Any:
    return observation.nodes[-1, :, observation.node_features.index(feature)]
