"""An interaction is what an action does beyond what it does anyway; causes are compared only where they look alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otel_control_gym.baselines.cause_model import balanced_accuracy, evaluate, train
from otel_control_gym.baselines.contrast_tables import (
    ARMS,
    FACTORIAL_FILE,
    FACTORIAL_SCHEMA,
    MATCHED_FILE,
    MATCHED_SCHEMA,
    FactorialBranch,
    MatchedCell,
    read_factorial,
    read_matched,
    write_rows,
)
from otel_control_gym.baselines.contrasts import factorial_effects, matched_pairs
from otel_control_gym.baselines.evaluations import Task
from otel_control_gym.baselines.folds import CROSSED
from otel_control_gym.engine.errors import DatasetError
from otel_control_gym.engine.randomness import draw_uniform

REWARDS = {"neither": 9.0, "action": 8.5, "fault": 4.0, "both": 7.0}


def factorial(families: int = 14) -> list[FactorialBranch]:
    return [
        FactorialBranch(
            run_id=f"run-{family:02}",
            number=number,
            arm=arm,
            family_id=f"{family:04}",
            stratum=("fault_with_recovery", "wrong_remedy")[family % 2],
            fault_type="cpu_pressure",
            action_type="restart",
            target="cart",
            reward=REWARDS[arm] + draw_uniform(1, family, number),
        )
        for family in range(families)
        for number in range(2)
        for arm in ARMS
    ]


def cells(*, families: int = 16, pressure: float = 0.5, told: float = 0.0) -> list[MatchedCell]:
    """Return pairs that show alike, but for `told` in the latency of the entry."""
    rows = []
    for family in range(families):
        for cause, strength, shift, sign in (("action", "to 1", 0.5, 1.0), ("fault", "mild", pressure, -1.0)):
            for step in range(-3, 6):
                chance = draw_uniform(2, family, step + 3, cause == "action")
                values = {
                    ("target", "cpu_saturation"): 0.2 + shift * (step >= 0),
                    ("entry", "latency_mean_ms"): 40 + 4 * chance + sign * told * (step >= 0),
                }
                rows += [
                    MatchedCell(
                        run_id=f"run-{family:02}",
                        comparison="scale-down or cpu_pressure",
                        number=0,
                        cause="action" if cause == "action" else "fault",
                        strength=strength,
                        place="target" if place == "target" else "entry",
                        feature=feature,
                        step=step,
                        family_id=f"{family:016x}",
                        target="cart",
                        value=value,
                    )
                    for (place, feature), value in values.items()
                ]
    return rows


def test_the_interaction_is_what_the_action_does_beyond_what_it_does_anyway() -> None:
    found = {item.contrast: item.effect.value for item in factorial_effects(factorial()) if item.stratum == "all"}
    assert found == {
        "action without fault": pytest.approx(-0.5),
        "fault without action": pytest.approx(-5.0),
        "action under the fault": pytest.approx(3.0),
        "interaction": pytest.approx(3.5),
    }
    assert {item.stratum for item in factorial_effects(factorial())} == {"all", "fault_with_recovery", "wrong_remedy"}


def test_causes_are_paired_where_their_symptom_is_alike_and_dropped_elsewhere() -> None:
    (alike,) = matched_pairs(cells(families=3, pressure=0.55))
    assert [cause.is_action for cause in alike.causes] == [True, False] * 3
    (apart,) = matched_pairs(cells(families=3, pressure=0.9))
    assert (apart.causes, apart.dropped) == ((), 3)


def test_the_nearest_of_several_strengths_is_taken() -> None:
    rows = [*cells(families=1, pressure=0.58)]
    nearer = [
        MatchedCell(**{**{name: getattr(row, name) for name in row.__struct_fields__}, "strength": "visible"})
        for row in cells(families=1, pressure=0.52)
        if row.cause == "fault"
    ]
    (found,) = matched_pairs([*rows, *nearer])
    assert [cause.strength for cause in found.causes] == ["to 1", "visible"]


@pytest.mark.parametrize(("told", "low", "high"), [(0.0, 0.2, 0.8), (50.0, 0.95, 1.0)])
def test_what_telemetry_tells_is_found_and_what_it_doesnt_isnt_but_the_log_always_tells(
    tmp_path: Path, told: float, low: float, high: float
) -> None:
    write_rows(factorial(), FACTORIAL_SCHEMA, tmp_path / FACTORIAL_FILE)
    write_rows(cells(told=told), MATCHED_SCHEMA, tmp_path / MATCHED_FILE)
    task = Task(directory=tmp_path, split=CROSSED)
    evaluation = evaluate(train(task), task)
    found = evaluation.figures["balanced_accuracy"]
    assert low <= found["scale-down or cpu_pressure, dynamics"].value <= high
    assert found["scale-down or cpu_pressure, with the action log"].value == 1.0
    assert evaluation.families == 16


def test_balanced_accuracy_weighs_both_causes_alike() -> None:
    (found,) = matched_pairs(cells(families=4))
    causes = [*found.causes, *found.causes[:1] * 6]
    always_action = balanced_accuracy(causes, [True] * len(causes))
    assert always_action.value == pytest.approx(0.5)


def test_rows_come_back_as_they_were_written_and_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    write_rows(reversed(factorial(2)), FACTORIAL_SCHEMA, tmp_path / FACTORIAL_FILE)
    assert read_factorial(tmp_path) == sorted(factorial(2))
    write_rows(cells(families=1), MATCHED_SCHEMA, tmp_path / MATCHED_FILE)
    assert read_matched(tmp_path) == sorted(cells(families=1))
    assert np.isfinite([cell.value for cell in read_matched(tmp_path)]).all()
    with pytest.raises(DatasetError, match="ocg campaign contrast"):
        read_factorial(tmp_path / "elsewhere")
