"""The effect of an action on the reward, learnt from the branches of training families, and scored beside everything else that claims to
know.

In: a campaign with `counterfactuals.parquet`. Out: the baseline `effect`: two small models of the difference to `noop` (a ridge and
boosted trees), and the tables that the truth of branches allows: average effects, scores on effects, off-policy estimates.

What a model reads of an alternative: what is asked of the services aimed at, and how those and the entry are at the request. All of it
is 0 for `noop`, whose effect is 0 by definition; the line has no intercept. Penalty and size are chosen on training families, by
groups.

Upstream: `decision_states`. Downstream: `catalogue`, the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold

from otel_control_gym.baselines.asked import ACTION_COLUMNS, OWN_COLUMNS
from otel_control_gym.baselines.branched_decisions import BranchedDecision, branched_decisions
from otel_control_gym.baselines.counterfactual_tables import HORIZONS, read_branches
from otel_control_gym.baselines.decision_states import decision_states
from otel_control_gym.baselines.evaluations import Evaluation, Task
from otel_control_gym.baselines.folds import Fold, folds_of
from otel_control_gym.baselines.rows import action_blocks, node_rows
from otel_control_gym.baselines.states import State
from otel_control_gym.engine.errors import UsageError

__all__ = ("MODELS", "EffectBaseline", "FoldEffects", "evaluate", "features", "foretell", "train")

Float = npt.NDArray[np.float64]

MODELS: tuple[str, ...] = ("ridge", "boosted")
_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
_GROUPS = 4  #: of training families, at most, for choosing the penalty
_TREES = {"max_iter": 60, "max_leaf_nodes": 6, "min_samples_leaf": 6, "l2_regularization": 1.0}
_OF_ACTION = (*OWN_COLUMNS, "asked:load_ratio", "asked:pods_ratio x fullness", "asked:disturbed x only_pod")
_OF_TARGET = (
    "request_rate: now",
    "error_ratio: now",
    "latency_mean_ms: now",
    "fullness: now",
    "memory_fullness: now",
    "ready_share: now",
    "replicas_ready: now",
    "hops from the entry",
)
_OF_ENTRY = ("entry: error_ratio", "entry: change of latency over the look back", "offered: change")
_COLUMNS = (*_OF_ACTION, *(f"target {name}" for name in _OF_TARGET), *_OF_ENTRY)


class _Key(NamedTuple):
    model: str
    horizon_steps: int


class FoldEffects(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The models of a fold."""

    fold: Fold
    estimators: Mapping[_Key, tuple[Any, ...]]  #: of scikit-learn; several seeds' are averaged


class EffectBaseline(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What `ocg baseline train effect` keeps."""

    folds: tuple[FoldEffects, ...]


def train(task: Task) -> EffectBaseline:
    """Return models of the effects that the branches of training families show.

    Raises: UsageError: there is no such split, or too few families in it. DatasetError: there are no branches, or a file can't be read.
    """
    decisions = branched_decisions(read_branches(task.directory))
    rows = [_rows(state) for state in decision_states(task.directory, decisions)]
    folds = folds_of(task.directory, task.split, {decision.family_id for decision in decisions})
    return EffectBaseline(folds=tuple(_fit(fold, decisions, rows, task.seeds) for fold in folds))


def evaluate(model: EffectBaseline, task: Task) -> Evaluation:
    """Return average effects, and scores on families that weren't trained on.

    Raises: DatasetError: there are no branches, or a file can't be read.
    """
    from otel_control_gym.baselines.effect_tables import score

    return score(model, task)


def features(model: EffectBaseline) -> Sequence[str]:  # noqa: ARG001
    """Return the names of what the models read."""
    return _COLUMNS


def foretell(models: FoldEffects, states: Sequence[State], name: str) -> list[Float]:
    """Return the differences to noop that a model foretells for each decision's alternatives, [A, len(HORIZONS)]."""
    found = []
    for state in states:
        rows = _rows(state)
        columns = [
            np.mean([one.predict(rows) for one in models.estimators[_Key(name, steps)]], axis=0) for steps in HORIZONS
        ]
        acted = np.array([asked is not None for asked in state.now])
        found.append(np.where(acted[:, np.newaxis], np.stack(columns, axis=-1), 0.0))
    return found


# --- fitting --------------------------------------------------------------------------------------------------------------


def _fit(fold: Fold, decisions: Sequence[BranchedDecision], rows: Sequence[Float], seeds: Sequence[int]) -> FoldEffects:
    families = fold.train | fold.validation
    learnt = [
        (decision, columns) for decision, columns in zip(decisions, rows, strict=True) if decision.family_id in families
    ]
    names = sorted({decision.family_id for decision, _ in learnt})
    if len(names) < 2:
        raise UsageError(
            f"{len(names)} training families have branches: too few for a model of effects\n"
            f"  play more (`ocg campaign counterfactual`), in at least 2, or use split `crossed`"
        )
    inputs = np.concatenate([columns[1:] for _, columns in learnt])
    groups = [decision.family_id for decision, columns in learnt for _ in columns[1:]]
    estimators: dict[_Key, tuple[Any, ...]] = {}
    for position, steps in enumerate(HORIZONS):
        wanted = np.concatenate([decision.effects[1:, :, position].mean(axis=1) for decision, _ in learnt])
        known = np.isfinite(wanted)
        fitted = GridSearchCV(
            Ridge(fit_intercept=False),
            {"alpha": _PENALTIES},
            scoring="neg_mean_squared_error",
            cv=GroupKFold(min(_GROUPS, len(names))),
        ).fit(inputs[known], wanted[known], groups=np.array(groups)[known])
        estimators[_Key("ridge", steps)] = (fitted.best_estimator_,)
        estimators[_Key("boosted", steps)] = tuple(
            HistGradientBoostingRegressor(**_TREES, max_features=0.5, random_state=seed).fit(
                inputs[known], wanted[known]
            )
            for seed in seeds
        )
    return FoldEffects(fold=fold, estimators=estimators)


def _rows(state: State) -> Float:
    """Return what is read of each alternative, [A, len(_COLUMNS)]: the mean over the services aimed at; 0 for noop."""
    blocks = action_blocks(state, state.step_seconds)  # [A, N, ...]
    services = node_rows(state)
    acted = np.array([asked is not None for asked in state.now], np.float64)[:, np.newaxis]
    own = [ACTION_COLUMNS.index(name) for name in OWN_COLUMNS]
    aimed = (np.abs(blocks[..., own]).sum(axis=-1) > 0).astype(np.float64)  # [A, N]
    share = aimed / np.maximum(aimed.sum(axis=1, keepdims=True), 1.0)
    asked = np.einsum("an,anc->ac", share, blocks[..., [ACTION_COLUMNS.index(name) for name in _OF_ACTION]])
    load = ACTION_COLUMNS.index("asked:load_ratio")
    asked[:, _OF_ACTION.index("asked:load_ratio")] = blocks[:, 0, load]  # the same for all services
    inputs = np.nan_to_num(services.inputs)
    target = np.einsum("an,anc->ac", share, inputs[..., [services.columns.index(name) for name in _OF_TARGET]])
    entry = inputs[:, 0, [services.columns.index(name) for name in _OF_ENTRY]]
    rows: Float = acted * np.concatenate([asked, target, entry], axis=1)
    return rows
