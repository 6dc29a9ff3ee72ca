"""A reward model weighs candidates in the order of what they bring, and its scores are what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from otel_control_gym.baselines.evaluations import Task
from otel_control_gym.baselines.folds import folds_of
from otel_control_gym.baselines.reward_model import RewardModel, judge, train_on
from otel_control_gym.baselines.reward_scores import concordance, score
from otel_control_gym.baselines.windows import CampaignWindows
from tests.baselines.conftest import scaling, small_system, steady_state


@pytest.fixture(scope="module")
def model(campaign: CampaignWindows) -> RewardModel:
    families = [run.family_id for run in campaign.runs]
    return train_on(campaign, folds_of(campaign.directory, "crossed", families)[:2], seeds=(0, 1))


@pytest.mark.parametrize("model_class", ["ridge", "boosted"])
def test_what_costs_more_is_judged_worse(model_class: str, model: RewardModel) -> None:
    candidates = [scaling(1), scaling(3), scaling(6)]
    found = judge(model.folds[0], steady_state(small_system()), candidates, model_class=model_class)  # type: ignore[arg-type]
    assert found.reward[0] > found.reward[1] > found.reward[2]
    assert ((found.breach_probability >= 0) & (found.breach_probability <= 1)).all()


def test_the_twin_without_the_action_judges_all_alike(model: RewardModel) -> None:
    found = judge(model.folds[0], steady_state(small_system()), [None, scaling(6)], twin="passive")
    assert found.reward[0] == found.reward[1]


def test_knowing_the_action_tells_more_of_the_reward(campaign: CampaignWindows, model: RewardModel) -> None:
    evaluation = score(model, campaign, Task(directory=campaign.directory, split="crossed"))
    ratio = evaluation.figures["errors"]["reward/with an action/3/boosted: action known / passive"]
    assert ratio.high < 1
    assert evaluation.families > 12


def test_concordance_counts_the_pairs_whose_order_is_known() -> None:
    times, ended = np.array([1.0, 2.0, 3.0]), np.array([True, False, True])
    assert concordance(np.array([1.0, 2.0, 3.0]), times, ended) == 1.0
    assert concordance(np.array([3.0, 2.0, 1.0]), times, ended) == 0.0
    assert (
        concordance(np.array([1.0, 3.0, 2.0]), times, ended) == 1.0
    )  # 2 was cut off: who of the last two is sooner isn't known
    assert concordance(np.ones(3), times, ended) == 0.5
    assert np.isnan(concordance(np.ones(2), np.array([1.0, 2.0]), np.array([False, True])))
