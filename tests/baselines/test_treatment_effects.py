"""Average effects are differences within pairs, each family counting once; scores of models know perfect from useless."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from otel_control_gym.baselines.branched_decisions import BranchedDecision, branched_decisions
from otel_control_gym.baselines.counterfactual_tables import CounterfactualBranch
from otel_control_gym.baselines.effect_scores import best_constant, constant_choice, regret, score_effects
from otel_control_gym.baselines.treatment_effects import ANY, average_effects, state_effects
from otel_control_gym.engine.randomness import draw_uniform

Float = npt.NDArray[np.float64]

EFFECTS = {"noop": 0.0, "scale": 0.6, "restart": -0.4}


def branch(family: int, kind: str, number: int, effect: float, *, steps: int = 10) -> CounterfactualBranch:
    """Return a branch whose chance is that of its number, whatever is done."""
    chance = 5.0 * draw_uniform(1, family, number)
    sums = [chance + effect * reached / 10 if reached <= steps else None for reached in (1, 3, 10)]
    return CounterfactualBranch(
        pair_id=f"{family}-{number}",
        run_id=f"run-{family:02}",
        family_id=f"{family:04}",
        stratum="randomised",
        service_config="small-core",
        decision_step=4,
        time_us=0,
        action_id=f"action-{family}",
        alternative_index=list(EFFECTS).index(kind),
        alternative=f'{{"type":"{kind}"}}',
        action_type=kind,
        target=None,
        is_logged=kind == "restart",
        probability=0.1,
        number=number,
        step_s=30,
        horizon_s=300,
        reward_1=sums[0],
        reward_3=sums[1],
        reward_10=sums[2],
        status="applied",
        done_reason=None,
    )


def decisions(families: int = 16, pairs: int = 3) -> list[BranchedDecision]:
    """Return decisions whose effects differ a little from family to family, and from pair to pair."""
    return branched_decisions(
        branch(
            family,
            kind,
            number,
            (effect + 0.2 * (draw_uniform(2, family) - 0.5) + 0.02 * draw_uniform(3, family, number))
            if effect
            else 0.0,
        )
        for family in range(families)
        for kind, effect in EFFECTS.items()
        for number in range(pairs)
    )


def test_what_chance_does_to_both_of_a_pair_cancels_out() -> None:
    found = {(item.action_type, item.horizon_steps): item for item in average_effects(decisions())}
    assert sorted({kind for kind, _ in found}) == [ANY, "restart", "scale"]
    scale = found["scale", 10].effect
    assert scale.value == pytest.approx(
        np.mean(
            [
                0.6 + 0.2 * (draw_uniform(2, family) - 0.5) + 0.02 * draw_uniform(3, family, number)
                for family in range(16)
                for number in range(3)
            ]
        )
    )
    assert scale.low is not None
    assert scale.high is not None
    assert scale.low < (scale.value or 0) < scale.high
    assert scale.high - scale.low < 0.1  # chance between futures is fifty times as large
    assert scale.families == 16
    assert found["restart", 10].harmed == 1.0
    assert found["scale", 1].effect.value == pytest.approx(scale.value / 10 if scale.value else None)


def test_a_family_with_many_decisions_counts_once() -> None:
    few, many = decisions(families=2)[:1], decisions(families=2)[1:]
    (first,) = [item for item in average_effects(few) if (item.action_type, item.horizon_steps) == ("scale", 10)]
    (second,) = [item for item in average_effects(many) if (item.action_type, item.horizon_steps) == ("scale", 10)]
    (both,) = [
        item for item in average_effects([*few, *many * 5]) if (item.action_type, item.horizon_steps) == ("scale", 10)
    ]
    assert first.effect.value is not None
    assert second.effect.value is not None
    assert both.effect.value == pytest.approx((first.effect.value + second.effect.value) / 2)
    assert both.effect.too_few


def test_the_effect_at_a_decision_has_an_interval_over_its_pairs_and_a_branch_that_was_too_short_has_none() -> None:
    found = state_effects(decisions(families=1))
    assert len(found) == 2 * 3
    for item in found:
        assert item.low is not None
        assert item.high is not None
        assert item.low < item.effect < item.high
    short = branched_decisions(
        branch(0, kind, number, effect, steps=3) for kind, effect in EFFECTS.items() for number in range(2)
    )
    assert {item.horizon_steps for item in state_effects(short)} == {1, 3}
    assert score_effects(short, [np.zeros((3, 3))], horizon_steps=10).decisions == 0


def test_futures_that_an_alternative_lacks_are_left_out() -> None:
    rows = [branch(0, kind, number, effect) for kind, effect in EFFECTS.items() for number in range(3)]
    (found,) = branched_decisions(row for row in rows if (row.action_type, row.number) != ("scale", 1))
    assert found.rewards.shape == (3, 2, 3)
    assert found.effects[1, :, 2] == pytest.approx(0.6)


def truth(found: list[BranchedDecision]) -> list[Float]:
    return [decision.effects.mean(axis=1) for decision in found]


def test_a_model_that_knows_the_effects_has_full_marks_and_its_opposite_none() -> None:
    found = decisions()
    right = score_effects(found, truth(found), horizon_steps=10)
    assert (right.sign.value, right.kendall.value, right.spearman.value, right.regret.value) == (1.0, 1.0, 1.0, 0.0)
    assert right.error == 0.0
    assert right.settled == 2 * len(found)
    assert right.explained == pytest.approx(1.0, abs=0.01)
    wrong = score_effects(found, [-effect for effect in truth(found)], horizon_steps=10)
    assert (wrong.sign.value, wrong.kendall.value) == (0.0, -1.0)
    assert wrong.explained is not None
    assert wrong.explained < 0
    nothing = score_effects(found, [np.zeros_like(effect) for effect in truth(found)], horizon_steps=10)
    assert (nothing.kendall.value, nothing.error) == (0.0, nothing.error_of_none)
    assert nothing.explained == pytest.approx(0.0)
    assert nothing.regret.value == pytest.approx(
        np.mean([decision.effects[1, :, 2].mean() for decision in found])
    )  # of always noop


def test_signs_that_the_branches_dont_settle_arent_scored() -> None:
    noisy = branched_decisions(
        branch(0, kind, number, effect and (-1.0) ** number) for kind, effect in EFFECTS.items() for number in range(4)
    )
    assert score_effects(noisy, truth(noisy), horizon_steps=10).settled == 0


def test_the_best_constant_action_is_noop_where_it_isnt_on_the_menu() -> None:
    found = decisions()
    assert best_constant(found, 2) == "scale"
    assert constant_choice(found[0], "scale") == 1
    assert constant_choice(found[0], "delete_pod") == 0
    assert regret(found[0], 1, 2) == 0.0
    harmful = branched_decisions(
        branch(0, kind, number, -abs(effect)) for kind, effect in EFFECTS.items() for number in range(2)
    )
    assert best_constant(harmful, 2) == "noop"
