"""Pure folds of the event log: observation, rewards, tables. No clock, no I/O but the writing of a finished dataset.

What needs pyarrow is loaded when it is first asked for: a policy that steps an environment never does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_control_gym.projections.arrays import ObservationArrays, observation_arrays
from otel_control_gym.projections.dictionary import data_dictionary
from otel_control_gym.projections.documents import json_schema
from otel_control_gym.projections.fold import RunState, fold, initial, step
from otel_control_gym.projections.happenings import Happening
from otel_control_gym.projections.objectives import reached_emergency, reached_goal
from otel_control_gym.projections.rewards import (
    COMPONENTS,
    RewardRow,
    StepReward,
    reward_rows,
    step_reward,
)
from otel_control_gym.projections.schemas import CONTRACT_VERSION
from otel_control_gym.projections.summaries import LogPattern, TraceSummary

if TYPE_CHECKING:
    from otel_control_gym.projections.dataset import write_dataset
    from otel_control_gym.projections.validation import Violation, validate

__all__ = (
    "COMPONENTS",
    "CONTRACT_VERSION",
    "Happening",
    "LogPattern",
    "ObservationArrays",
    "RewardRow",
    "RunState",
    "StepReward",
    "TraceSummary",
    "Violation",
    "data_dictionary",
    "fold",
    "initial",
    "json_schema",
    "observation_arrays",
    "reached_emergency",
    "reached_goal",
    "reward_rows",
    "step",
    "step_reward",
    "validate",
    "write_dataset",
)


def __getattr__(name: str) -> Any:
    if name == "write_dataset":
        from otel_control_gym.projections import dataset

        return dataset.write_dataset
    if name in ("Violation", "validate"):
        from otel_control_gym.projections import validation

        return getattr(validation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
