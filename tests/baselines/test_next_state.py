"""Where an action matters, knowing it helps; where it doesn't, it does no harm; and if it is another decision's, the advantage is gone."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from otel_control_gym.baselines.effect_cells import EffectCell, write_cells
from otel_control_gym.baselines.evaluations import Evaluation, Task
from otel_control_gym.baselines.folds import folds_of
from otel_control_gym.baselines.headline import action_conditioned_over_passive, ratios_by
from otel_control_gym.baselines.next_state import (
    OF_A_CORRECTION,
    TWINS,
    Key,
    NextStateModel,
    foretell,
    roll_out,
    train_on,
)
from otel_control_gym.baselines.next_state_scores import score
from otel_control_gym.baselines.panels import action_names, panels_of
from otel_control_gym.baselines.shuffling import with_shuffled_actions
from otel_control_gym.baselines.states import with_actions
from otel_control_gym.baselines.windows import HORIZON_STEPS, CampaignWindows
from tests.baselines.conftest import LEVELS, STEP, scaling, small_system, steady_state

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def model(campaign: CampaignWindows) -> NextStateModel:
    return trained(campaign)


@pytest.fixture(scope="module")
def predictions(campaign: CampaignWindows, model: NextStateModel) -> pa.Table:
    return scored(campaign, model)[1]


def trained(windows: CampaignWindows, *, folds: int = 2, seeds: tuple[int, ...] = (0, 1)) -> NextStateModel:
    known = folds_of(windows.directory, "crossed", [run.family_id for run in windows.runs])
    return train_on(windows, known[:folds], seeds=seeds)


def scored(windows: CampaignWindows, model: NextStateModel) -> tuple[Evaluation, pa.Table]:
    cells = [
        EffectCell(
            run_id=run.run_id,
            action_id=decision.action_id,
            kind="node",
            entity=entity,
            feature="memory_usage_bytes",
            time_us=decision.requested // 1000,
            horizon_s=horizon * STEP,
            group="changed" if entity == "back" else "unchanged",
            n_branches=8,
        )
        for run in windows.runs
        for decision in run.decisions
        for entity in ("front", "back")
        for horizon in HORIZON_STEPS
    ]
    write_cells(windows.directory, cells)
    path = windows.directory / "predictions.parquet"
    evaluation = score(model, windows, Task(directory=windows.directory, split="crossed", predictions=path))
    return evaluation, pq.read_table(path)


@pytest.mark.parametrize("model_class", ["ridge", "boosted"])
@pytest.mark.parametrize("method", ["direct", "rolled"])
def test_knowing_the_action_helps_where_it_changes_something(
    model_class: str, method: str, predictions: pa.Table
) -> None:
    found = action_conditioned_over_passive(predictions, model=model_class, method=method)
    assert found["changed"].high is not None
    assert found["changed"].high < 0.8
    if method == "direct":
        assert found["unchanged"].ratio == pytest.approx(1.0, abs=0.15)


def test_shuffled_actions_are_worth_nothing(campaign: CampaignWindows) -> None:
    """Permuted within (policy, configuration, time bin), an action tells nothing of what follows it."""
    shuffled = with_shuffled_actions(campaign, seed=3)
    assert [run.state.now for run in shuffled.runs] != [run.state.now for run in campaign.runs]
    asked = sorted(str(one.parameters) for run in shuffled.runs for one in run.state.now if one is not None)
    assert asked == sorted(str(one.parameters) for run in campaign.runs for one in run.state.now if one is not None)
    _, predictions = scored(shuffled, trained(shuffled))
    found = action_conditioned_over_passive(predictions)
    assert found["changed"].high is not None
    assert found["changed"].high > 1.0


def test_the_twins_differ_in_the_action_alone(campaign: CampaignWindows, model: NextStateModel) -> None:
    fold = model.folds[0]
    panel = panels_of(campaign.runs, (1,))["node"]
    read = panel.inputs[:, [name in OF_A_CORRECTION for name in panel.columns]]
    for model_class in ("ridge", "boosted"):
        known, passive = (fold.models[Key("node", twin, model_class, 1)] for twin in ("action", "passive"))
        assert known.forecast is passive.forecast
        assert known.correction.encoding.names == passive.correction.encoding.names
        assert len(known.correction.trees) == len(passive.correction.trees)
        np.testing.assert_array_equal(known.correction.encoding.centre, passive.correction.encoding.centre)
        rows = [
            one.correction.encoding.for_lines(read, actions, panel.entity)
            for one, actions in ((known, panel.actions[1]), (passive, None))
        ]
        assert rows[0].shape[1] - rows[1].shape[1] == len(action_names("node"))
        np.testing.assert_array_equal(rows[0][:, : rows[1].shape[1]], rows[1])


def test_where_nothing_is_asked_for_the_twins_foretell_the_same(model: NextStateModel) -> None:
    state = with_actions(steady_state(small_system()), [None, scaling(6)])
    known, passive = (foretell(model.folds[0], state, horizon=1, twin=twin) for twin in TWINS)
    for one, other in zip(known, passive, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    assert (known.nodes[1] != passive.nodes[1]).any()


def test_the_ratio_follows_from_the_file_alone(
    predictions: pa.Table, campaign: CampaignWindows, model: NextStateModel
) -> None:
    evaluation, again = scored(campaign, model)
    assert again.equals(predictions)
    assert evaluation.figures["action_conditioned_over_passive"] == action_conditioned_over_passive(again)
    wanted = {"model": "boosted", "method": "direct", "group": "changed"}
    chosen = again.filter(
        reduce(pc.and_, (pc.equal(again[name].cast(pa.string()), value) for name, value in wanted.items()))
    )
    errors = [
        np.mean(np.abs(chosen[name].to_numpy() - chosen["y_true"].to_numpy()) / chosen["scale"].to_numpy())
        for name in ("y_ac", "y_passive")
    ]
    assert action_conditioned_over_passive(again)["changed"].ratio == pytest.approx(errors[0] / errors[1])
    assert set(ratios_by(again, "feature_group")) >= {"memory", "traffic"}


def test_every_family_is_scored_by_models_that_never_saw_it(campaign: CampaignWindows) -> None:
    families = [run.family_id for run in campaign.runs]
    folds = folds_of(campaign.directory, "crossed", families)
    assert sorted(family for fold in folds for family in fold.scored) == sorted(families)
    for fold in folds:
        assert not fold.scored & (fold.train | fold.validation)
        assert not fold.train & fold.validation


def test_several_candidates_are_foretold_at_once(model: NextStateModel) -> None:
    state = steady_state(small_system())
    memory, front, back = 4, 0, 1
    several = with_actions(state, [None, scaling(4), scaling(6)])
    found = foretell(model.folds[0], several, horizon=3, model_class="ridge").nodes[:, :, memory]
    assert found[0, back] < found[1, back] < found[2, back]
    np.testing.assert_allclose(found[:, front], LEVELS["memory_usage_bytes"], rtol=0.2)
    alone = foretell(model.folds[0], with_actions(state, [scaling(6)]), horizon=3, model_class="ridge")
    np.testing.assert_allclose(alone.nodes[0, :, memory], found[2])
    passive = foretell(model.folds[0], several, horizon=3, twin="passive").nodes
    np.testing.assert_array_equal(passive[1], passive[2])  # it knows that something is asked for there, not what


def test_the_first_step_rolled_out_is_the_one_foretold_directly(model: NextStateModel) -> None:
    state = steady_state(small_system(), now=scaling(5))
    rolled = roll_out(model.folds[0], state, steps=2)
    np.testing.assert_array_equal(rolled[0].nodes, foretell(model.folds[0], state, horizon=1).nodes)


def test_the_same_data_give_the_same_figures(campaign: CampaignWindows, predictions: pa.Table) -> None:
    few = msgspec.structs.replace(campaign, runs=campaign.runs[:16])
    one, other = (scored(few, trained(few, folds=1, seeds=(0,)))[1] for _ in range(2))
    assert one.equals(other)
    assert Path(campaign.directory / "effect_cells.parquet").is_file()
