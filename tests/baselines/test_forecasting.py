"""Passive models and classical methods are scored on the same windows, none of which has an action near it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from otel_control_gym.baselines.evaluations import Task
from otel_control_gym.baselines.folds import folds_of
from otel_control_gym.baselines.forecasting import CLASSICAL, quiet_window, score
from otel_control_gym.baselines.next_state import train_on
from otel_control_gym.baselines.windows import CampaignWindows, RunWindows


def without_actions(run: RunWindows) -> RunWindows:
    count = len(run.decisions)
    return msgspec.structs.replace(
        run, state=msgspec.structs.replace(run.state, now=(None,) * count, past=((),) * count)
    )


def test_a_window_with_an_action_near_it_is_not_quiet(campaign: CampaignWindows) -> None:
    run = campaign.runs[0]
    assert quiet_window(run) is None
    calm = without_actions(run)
    found = quiet_window(calm)
    assert found is not None
    after = msgspec.structs.replace(calm.state, now=tuple(run.state.now[1] if d == 5 else None for d in range(6)))
    assert quiet_window(msgspec.structs.replace(calm, state=after)) is None


@pytest.mark.filterwarnings("default")  # statsforecast's own
def test_all_are_scored_on_the_same_windows(campaign: CampaignWindows) -> None:
    quiet = msgspec.structs.replace(campaign, runs=tuple(without_actions(run) for run in campaign.runs[:20]))
    folds = folds_of(quiet.directory, "crossed", [run.family_id for run in quiet.runs])[:1]
    model = train_on(quiet, folds, seeds=(0,), twins=("passive",))
    evaluation = score(model, quiet, Task(directory=quiet.directory, split="crossed"))
    for horizon in evaluation.figures["horizons"].values():
        assert set(horizon["errors"]) == {*CLASSICAL, "persistence", "ridge, passive", "boosted, passive"}
        assert len({interval.families for interval in horizon["errors"].values()}) == 1
        best = min(horizon["errors"][name].value for name in CLASSICAL)
        found = horizon["passive_over_best_classical"]["ridge"].value
        assert found == pytest.approx(horizon["errors"]["ridge, passive"].value / best)
        assert np.isfinite(found)
