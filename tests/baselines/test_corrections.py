"""What is foretold where nothing is asked for stays as it is; where something is, only what was seen to hold in other families is added."""

from __future__ import annotations

import numpy as np
import pytest

from otel_control_gym.baselines.corrections import Corrected, Forecast, fit_correction, fit_forecast
from otel_control_gym.baselines.regressors import Loss, ModelClass
from otel_control_gym.engine.randomness import derive_seed, draw_uniform

ROWS, PER_FAMILY = 240, 4
NAMES = ["a", "b"] * (ROWS // 2)
FAMILIES = [f"family-{row // PER_FAMILY}" for row in range(ROWS)]


def drawn(purpose: str, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    seed = derive_seed(0, purpose)
    return np.array([[draw_uniform(seed, row, column) for column in range(columns)] for row in range(ROWS)])


def forecast(model_class: ModelClass) -> Forecast:
    return fit_forecast(
        drawn("quiet", 3),
        NAMES,
        0.1 * (drawn("noise", 1) - 0.5),
        np.zeros(ROWS, bool),
        means=np.zeros((0, 1), np.int64),
        least=np.array([0.01]),
        losses=["absolute_error"],
        model_class=model_class,
        seeds=(0,),
    )


def corrected(
    model_class: ModelClass, effect: float
) -> tuple[Corrected, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    actions = (drawn("asked", 2) > 0.5).astype(np.float64)
    wanted = 0.1 * (drawn("more noise", 1) - 0.5) + effect * actions[:, :1]
    found = fit_correction(
        forecast(model_class),
        drawn("acted", 3),
        actions,
        NAMES,
        wanted,
        FAMILIES,
        np.ones(ROWS, np.int64),
        read=np.array([0]),
        seeds=(0,),
    )
    return found, actions


@pytest.mark.parametrize("model_class", ["ridge", "boosted"])
def test_an_effect_is_added_where_an_action_reaches_and_nowhere_else(model_class: ModelClass) -> None:
    model, actions = corrected(model_class, effect=2.0)
    reached = np.arange(ROWS) % 2 == 0
    found = model.predict(drawn("acted", 3), actions, NAMES, reached.astype(np.int64))[:, 0]
    plain = model.forecast.predict_by_seed(drawn("acted", 3), NAMES).mean(axis=0)[:, 0]
    np.testing.assert_array_equal(found[~reached], plain[~reached])
    np.testing.assert_allclose((found - plain)[reached], 2.0 * actions[reached, 0], atol=0.3)


@pytest.mark.parametrize("model_class", ["ridge", "boosted"])
def test_what_holds_in_no_other_family_is_not_added(model_class: ModelClass) -> None:
    model, actions = corrected(model_class, effect=0.0)
    found = model.predict(drawn("acted", 3), actions, NAMES, np.ones(ROWS, np.int64))
    plain = model.forecast.predict_by_seed(drawn("acted", 3), NAMES).mean(axis=0)
    assert np.abs(found - plain).max() < 0.02  # noise is 0.1 wide


def test_a_name_that_training_did_not_see_is_usually_missed_by_as_much_as_others() -> None:
    usual = forecast("ridge").usual_of(["a", "b", "never seen"])[:, 0]
    assert usual[2] == pytest.approx(np.median(usual[:2]))
    assert (usual >= 0.01).all()


def test_what_only_fluctuates_is_foretold_by_its_mean_and_what_wanders_by_its_last_value() -> None:
    last, mean = drawn("last", 1) - 0.5, np.zeros((ROWS, 1))
    wanders = np.array([name == "b" for name in NAMES])[:, np.newaxis]
    wanted = np.where(wanders, 0.0, mean - last)  # the change against the last value
    found = fit_forecast(
        mean - last,
        NAMES,
        wanted,
        np.zeros(ROWS, bool),
        means=np.array([[0]]),
        least=np.array([0.01]),
        losses=["absolute_error"],
        model_class="ridge",
        seeds=(0,),
    )
    assert found.weights[:2, 0, 0].tolist() == [1.0, 0.0]
    np.testing.assert_allclose(found.predict_by_seed(mean - last, NAMES)[0], wanted, atol=0.02)


@pytest.mark.parametrize("loss", ["absolute_error", "squared_error"])
def test_of_what_a_line_foretells_as_much_is_added_as_holds_in_families_that_it_had_not_seen(loss: Loss) -> None:
    """One target follows the inputs everywhere, one only in families that are learnt from, and one is rare jumps by chance."""
    inputs, held = drawn("inputs", 3), np.arange(ROWS) % 3 == 0
    jumps = np.where(drawn("jumps", 1)[:, 0] > 0.95, drawn("heights", 1)[:, 0], 0.0)
    wanted = np.stack([inputs[:, 0], np.where(held, 0.0, inputs[:, 0]), jumps], axis=-1)
    found = fit_forecast(
        inputs,
        NAMES,
        wanted,
        held,
        means=np.zeros((0, 3), np.int64),
        least=np.full(3, 0.01),
        losses=[loss] * 3,
        model_class="ridge",
        seeds=(0,),
    )
    holds, holds_not, chance = found.shares.tolist()
    assert holds > 0.7
    assert holds_not < 0.3
    if loss == "absolute_error":  # the mean of rare jumps isn't 0, but their median is
        assert chance == 0.0
        assert (found.predict_by_seed(inputs, NAMES)[..., 2] == 0.0).all()
