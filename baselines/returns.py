"""What an action would earn: the return of the next control steps, and by how much each action changes it; for controllers that plan.

In: a campaign's windows. Out: two models. The *passive* one foretells the return over `STEPS` control steps from what the entry and the
application look like, as if nothing were done. The *gain* is what an action adds to that: it is learnt from decisions at which something
was done, as the difference of what was earned to what the passive model foretells there, from the state of the action's target and from
what is asked of it.

Why two: decisions at which something is done are few, and nearly all of the return is decided by the state. One model of both spends its
splits on the state; the difference leaves it what the action did. The passive model that a difference is taken to has never seen the
family (cross-fitting over families), so that its errors are as large there as on new runs. How far the gain can be trusted is found in the
same way: it is shrunk by the slope of what was gained over what was foretold in families that it hadn't seen, between 0 and 1.

What policies do isn't done by chance outside the randomised stratum: who scales because load falls is seen to gain from scaling. The gain
is what decisions like it earned, not an effect that nothing confounds.

Upstream: `windows`, `rows`. Downstream: the model-predictive policy.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

from otel_control_gym.baselines.asked import ACTION_COLUMNS, ACTION_TYPES, Asked
from otel_control_gym.baselines.corrections import slope
from otel_control_gym.baselines.evaluations import Evaluation, Table, Task
from otel_control_gym.baselines.folds import crossed_folds, folds_of
from otel_control_gym.baselines.regressors import Regressor, fit_regressor
from otel_control_gym.baselines.rows import action_blocks, node_rows
from otel_control_gym.baselines.states import State, with_actions
from otel_control_gym.baselines.windows import RunWindows, load_windows

__all__ = (
    "STEPS",
    "PairedDecisions",
    "ReturnModel",
    "evaluate",
    "features",
    "foretold_gains",
    "foretold_return",
    "paired_decisions",
    "train",
    "train_on_pairs",
)

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

STEPS = 6  #: control steps over which a return is reckoned

_OF_THE_ENTRY = (
    "error_ratio: now",
    "error_ratio: change",
    "latency_mean_ms: now",
    "latency_mean_ms: change",
    "latency_mean_ms: change of the look back",
    "request_rate: now",
    "fullness: now",
    "ready_share: now",
    "called: worst error_ratio",
    "called: largest fullness",
    "offered: now",
    "offered: change of the look back",
    "application: least ready_share",
)
_OF_THE_TARGET = (
    "error_ratio: now",
    "latency_mean_ms: now",
    "latency_mean_ms: change of the look back",
    "request_rate: now",
    "request_rate: change of the look back",
    "fullness: now",
    "ready_share: now",
    "memory_fullness: now",
    "memory_usage_bytes: change of the look back",
    "restarts: now",
    "cpu_throttled_ratio: now",
    "called: worst error_ratio",
    "calls out: worst error_ratio",
    "callers: worst error_ratio",
    "hops from the entry",
)
_ASKED = tuple(name for name in ACTION_COLUMNS if name.startswith("asked:"))
_KINDS = [ACTION_COLUMNS.index(f"asked:{kind}") for kind in ACTION_TYPES]


class ReturnModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What `ocg baseline train returns` keeps."""

    step_seconds: int
    passive: Regressor
    gain: Regressor
    trust: float  #: factor of the gain, 0 to 1


class _Decisions(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """R decisions of several runs, as the models see them."""

    family: tuple[str, ...]  #: [R]
    application: tuple[str, ...]  #: [R]
    kind: tuple[str, ...]  #: [R] type of action; empty: noop
    entry: Float  #: [R, len(_OF_THE_ENTRY)]
    target: Float  #: [R, len(_OF_THE_TARGET)]; NaN: the action has none
    asked: Float  #: [R, len(_ASKED)]
    earned: Float  #: [R] NaN: the run ended before

    def where(self, rows: Bool) -> _Decisions:
        """Return some of the decisions."""
        numbers = np.flatnonzero(rows).tolist()
        return _Decisions(
            family=tuple(self.family[number] for number in numbers),
            application=tuple(self.application[number] for number in numbers),
            kind=tuple(self.kind[number] for number in numbers),
            entry=self.entry[rows],
            target=self.target[rows],
            asked=self.asked[rows],
            earned=self.earned[rows],
        )

    @property
    def acted(self) -> Bool:
        """[R] where something was done."""
        return np.array([kind != "" for kind in self.kind], bool)

    def of(self, families: frozenset[str]) -> Bool:
        """[R] which belong to these families."""
        return np.array([family in families for family in self.family], bool)


def train(task: Task) -> ReturnModel:
    """Return the models of a campaign's split, from its training and validation families.

    Raises: UsageError: there is no such campaign or split. DatasetError: a file can't be read.
    """
    windows = load_windows(task.directory)
    families = {run.family_id for run in windows.runs}
    (fold, *_) = folds_of(task.directory, task.split, families)
    learnt = fold.train | fold.validation
    decisions = _decisions(windows.of(learnt))
    decisions = decisions.where(np.isfinite(decisions.earned))
    foretold = np.full(len(decisions.earned), np.nan)
    for part in crossed_folds(sorted(learnt)):
        held = decisions.of(part.scored)
        model = _fit_passive(decisions.where(~held), task.seeds)
        foretold[held] = _passive(model, decisions.where(held))
    acted = decisions.where(decisions.acted)
    gained = acted.earned - foretold[decisions.acted]
    unseen = np.full(len(gained), np.nan)
    for part in crossed_folds(sorted(learnt)):
        held = acted.of(part.scored)
        if held.any() and not held.all():
            unseen[held] = _gain(_fit_gain(acted.where(~held), gained[~held], task.seeds), acted.where(held))
    return ReturnModel(
        step_seconds=windows.step_seconds,
        passive=_fit_passive(decisions, task.seeds),
        gain=_fit_gain(acted, gained, task.seeds),
        trust=slope(unseen, gained),
    )


class PairedDecisions(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Decisions of one family at which several actions were lived under the same randomness; `noop` is the first of each."""

    seen: _Decisions  #: [R] all actions of all decisions; `earned` is known
    of_noop: Float  #: [R] what `noop` earned at the same decision


def paired_decisions(
    family: str,
    states: Sequence[State],
    weighed: Sequence[Sequence[Asked | None]],
    earned: Sequence[Sequence[float]],
) -> PairedDecisions:
    """Return what was seen and earned at decisions of a family.

    Args:
        family: whose.
        states: of the decisions, each of one (D = 1).
        weighed: what was asked for in each future; None first.
        earned: over `STEPS` control steps, in the same order.
    """
    several = [_seen(with_actions(state, asked)) for state, asked in zip(states, weighed, strict=True)]
    joined = _joined(several)
    return PairedDecisions(
        seen=_Decisions(
            family=(family,) * len(joined.kind),
            application=joined.application,
            kind=joined.kind,
            entry=joined.entry,
            target=joined.target,
            asked=joined.asked,
            earned=np.concatenate([np.asarray(values, np.float64) for values in earned]),
        ),
        of_noop=np.concatenate([np.full(len(values), values[0]) for values in earned]),
    )


def train_on_pairs(pairs: Sequence[PairedDecisions], *, step_seconds: int, seeds: Sequence[int]) -> ReturnModel:
    """Return models of decisions whose alternatives were lived: gains are differences to `noop` at the same moment.

    How far they can be trusted is found by leaving a quarter of the families out at a time.
    """
    seen, of_noop = _joined([one.seen for one in pairs]), np.concatenate([one.of_noop for one in pairs])
    acted = seen.where(seen.acted)
    gained = acted.earned - of_noop[seen.acted]
    unseen = np.full(len(gained), np.nan)
    for part in crossed_folds(sorted(set(seen.family))):
        held = acted.of(part.scored)
        if held.any() and not held.all():
            unseen[held] = _gain(_fit_gain(acted.where(~held), gained[~held], seeds), acted.where(held))
    return ReturnModel(
        step_seconds=step_seconds,
        passive=_fit_passive(seen, seeds),
        gain=_fit_gain(acted, gained, seeds),
        trust=slope(unseen, gained),
    )


def foretold_return(model: ReturnModel, state: State) -> Float:
    """Return what is earned over the next `STEPS` steps if nothing is done, for each decision, [D]."""
    return _passive(model.passive, _seen(state))


def foretold_gains(model: ReturnModel, state: State, candidates: Sequence[Asked | None]) -> Float:
    """Return by how much each of A actions changes that return, for a state of one decision, [A]; 0 for nothing."""
    seen = _seen(with_actions(state, candidates))
    return np.where(seen.acted, model.trust * _gain(model.gain, seen), 0.0)


def evaluate(model: ReturnModel, task: Task) -> Evaluation:
    """Return how well gains are foretold on families that weren't trained on.

    Raises: UsageError: there is no such campaign or split. DatasetError: a file can't be read.
    """
    windows = load_windows(task.directory)
    (fold, *_) = folds_of(task.directory, task.split, {run.family_id for run in windows.runs})
    decisions = _decisions(windows.of(fold.scored))
    decisions = decisions.where(np.isfinite(decisions.earned))
    acted = decisions.where(decisions.acted)
    passive_error = np.abs(_passive(model.passive, decisions) - decisions.earned)
    gained = acted.earned - _passive(model.passive, acted)
    foretold = model.trust * _gain(model.gain, acted)
    ranks = stats.spearmanr(foretold, gained).statistic if len(gained) > 2 else np.nan
    figures = {
        "decisions": len(decisions.earned),
        "passive_mean_absolute_error": float(passive_error.mean()) if passive_error.size else None,
        "acted": len(gained),
        "acted_families": len(set(acted.family)),
        "error_without_gain": float(np.abs(gained).mean()) if gained.size else None,
        "error_with_gain": float(np.abs(gained - foretold).mean()) if gained.size else None,
        "trust": model.trust,
        "rank_correlation": None if np.isnan(ranks) else float(ranks),
    }
    return Evaluation(
        baseline="returns",
        campaign=windows.campaign,
        split=task.split,
        families=len(set(decisions.family)),
        tables=(
            Table(
                title=f"return over {STEPS} control steps",
                columns=("figure", "value"),
                rows=tuple((name.replace("_", " "), value) for name, value in figures.items()),
                note="error without gain: of the passive model alone, where something was done; with gain: of both",
            ),
        ),
        figures=figures,
    )


def features(model: ReturnModel) -> Sequence[str]:  # noqa: ARG001
    """Return the names of what the models read."""
    return [*(f"entry {name}" for name in _OF_THE_ENTRY), *(f"target {name}" for name in _OF_THE_TARGET), *_ASKED]


# --- decisions ------------------------------------------------------------------------------------------------------------


def _decisions(runs: Sequence[RunWindows]) -> _Decisions:
    return _joined([_seen(run.state, run) for run in runs])


def _joined(found: Sequence[_Decisions]) -> _Decisions:
    return _Decisions(
        family=tuple(family for one in found for family in one.family),
        application=tuple(name for one in found for name in one.application),
        kind=tuple(kind for one in found for kind in one.kind),
        entry=np.concatenate([one.entry for one in found]),
        target=np.concatenate([one.target for one in found]),
        asked=np.concatenate([one.asked for one in found]),
        earned=np.concatenate([one.earned for one in found]),
    )


def _seen(state: State, run: RunWindows | None = None) -> _Decisions:
    """Return what models see of a state's decisions; with a run, also what was earned."""
    rows = node_rows(state)
    blocks = action_blocks(state, STEPS * state.step_seconds)
    aimed = blocks[..., _KINDS].sum(axis=-1) > 0  # [D, N]
    first = aimed.argmax(axis=1)
    every = np.arange(len(state))
    columns = [rows.columns.index(name) for name in _OF_THE_TARGET]
    target = np.where(aimed.any(axis=1)[:, np.newaxis], rows.inputs[every, first][:, columns], np.nan)
    where = np.where(aimed.any(axis=1), first, state.system.entry)
    return _Decisions(
        family=("" if run is None else run.family_id,) * len(state),
        application=(state.system.name,) * len(state),
        kind=tuple("" if now is None or now.action_type == "noop" else now.action_type for now in state.now),
        entry=rows.inputs[:, state.system.entry][:, [rows.columns.index(name) for name in _OF_THE_ENTRY]],
        target=target,
        asked=blocks[every, where][:, [ACTION_COLUMNS.index(name) for name in _ASKED]],
        earned=np.full(len(state), np.nan) if run is None else run.rewards[:, :STEPS].sum(axis=1),
    )


# --- models ---------------------------------------------------------------------------------------------------------------


def _fit_passive(decisions: _Decisions, seeds: Sequence[int]) -> Regressor:
    calm = decisions.where(~decisions.acted)
    return fit_regressor(
        calm.entry,
        None,
        calm.application,
        calm.earned[:, np.newaxis],
        np.zeros(len(calm.earned), bool),
        model_class="boosted",
        seeds=seeds,
    )


def _fit_gain(acted: _Decisions, gained: Float, seeds: Sequence[int]) -> Regressor:
    return fit_regressor(
        _gain_inputs(acted),
        acted.asked,
        acted.application,
        gained[:, np.newaxis],
        np.zeros(len(gained), bool),
        model_class="boosted",
        seeds=seeds,
    )


def _passive(model: Regressor, decisions: _Decisions) -> Float:
    return model.predict(decisions.entry, None, decisions.application)[:, 0]


def _gain(model: Regressor, decisions: _Decisions) -> Float:
    return model.predict(_gain_inputs(decisions), decisions.asked, decisions.application)[:, 0]


def _gain_inputs(decisions: _Decisions) -> Float:
    return np.concatenate([decisions.entry, decisions.target], axis=1)
