"""An evaluation plays every policy in the same families, keeps what it has, and says what it found; a tiny one, from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from otel_control_gym.engine.errors import ConfigurationError, UsageError
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.policies import Choice, Policy
from otel_control_gym.policies.evaluation import EpisodeResult, evaluate, load_evaluation, scores_of, write_pages
from otel_control_gym.policies.evaluation.pages import COLUMNS

TINY = """
name: tiny
horizon_seconds: 240
scenarios:
  - name: bad-rollout
    interventions:
      - {at_seconds: 0, action: {type: bad_config, target: checkout->payment, mistake: address, duration_seconds: 240}}
menu:
  - {type: rollback_config, target: checkout}
  - {type: restart, target: cart}
search: {first: 2, every: 6, look_ahead: 5}
"""
OWN = f"{__name__}:make"


class Stubborn:
    """Somebody else's policy: it asks for what it may not have."""

    version, information = "stubborn", "public"

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:
        """Return the same, whatever is seen."""
        return Choice(action={"type": "feature_flag", "flag": "paymentFailure"} if step == 0 else {"type": "noop"})


def make(settings: RunSettings, menu: Any, seed: int) -> Policy:
    """Return a policy for an episode; what is public of the run is all that it is given."""
    assert isinstance(settings, RunSettings)
    return Stubborn()  # type: ignore[return-value]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("evaluations") / "tiny.yaml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="module")
def played(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[EpisodeResult], Path]:
    from otel_control_gym.policies.evaluation.cases import cases_of
    from otel_control_gym.policies.evaluation.contenders import Contender
    from otel_control_gym.policies.evaluation.episodes import CaseTask, play_case

    settings, directory = load_evaluation(tiny), tmp_path_factory.mktemp("data")
    (case,) = cases_of(settings, 1)
    contenders = tuple(
        Contender(name=name, search=settings.search) for name in ("noop", "rollback-on-bad-rollout", "oracle", OWN)
    )
    task = CaseTask(
        evaluation="tiny",
        case=case,
        contenders=contenders,
        scratch=directory,
        kept=tuple(directory / "kept" / f"{number}.json" for number in range(len(contenders))),
    )
    return play_case(task), directory


def test_the_oracle_finds_the_way_out_and_earns_at_least_what_nothing_earns(played: Any) -> None:
    by_policy = {result.policy: result for result in played[0]}
    assert by_policy["oracle"].policy_information == "privileged"
    assert [deed[1]["type"] for deed in by_policy["oracle"].deeds] == ["rollback_config"]
    assert by_policy["oracle"].judgement.total_return > by_policy["noop"].judgement.total_return + 0.5
    assert by_policy["oracle"].judgement.recovered
    assert not by_policy["noop"].judgement.recovered


def test_what_was_worth_it_in_futures_of_training_seeds_is_what_the_model_foretells(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from otel_control_gym.baselines.returns import train_on_pairs
    from otel_control_gym.policies.evaluation.cases import training_cases
    from otel_control_gym.policies.evaluation.exploring import Exploration, explore_case

    (case,) = training_cases(load_evaluation(tiny), 1)
    pairs = explore_case(Exploration(case=case, scratch=tmp_path_factory.mktemp("futures"), moments=(2,)))
    assert pairs.seen.kind == ("", "rollback_config", "restart")
    gains = pairs.seen.earned - pairs.of_noop
    assert gains[1] > 0.5 > gains[2]
    families = [
        msgspec.structs.replace(pairs, seen=msgspec.structs.replace(pairs.seen, family=(f"family-{number}",) * 3))
        for number in range(60)
    ]
    model = train_on_pairs(families, step_seconds=30, seeds=(0,))
    assert model.trust > 0.5
    foretold = model.gain.predict(
        np.concatenate([pairs.seen.entry, pairs.seen.target], axis=1), pairs.seen.asked, pairs.seen.application
    )
    assert foretold[1, 0] > foretold[2, 0] + 0.5


def test_the_rule_for_rollouts_sees_a_bad_one_by_public_figures(played: Any) -> None:
    rule = next(result for result in played[0] if result.policy == "rollback-on-bad-rollout")
    assert [(deed[1]["type"], deed[1]["target"]) for deed in rule.deeds] == [("rollback_config", "checkout")]
    assert rule.policy_information == "public"


def test_all_play_to_the_horizon_and_what_is_forbidden_is_unsafe(played: Any) -> None:
    assert {(result.steps, result.done_reason) for result in played[0]} == {(8, "horizon")}
    own = next(result for result in played[0] if result.policy == OWN)
    assert own.judgement.unsafe_actions == 1
    assert own.deeds[0][2] == "rejected"


def test_each_result_is_kept_as_soon_as_it_is_there(played: Any) -> None:
    results, directory = played
    kept = [
        msgspec.json.decode(file.read_bytes(), type=EpisodeResult) for file in sorted((directory / "kept").iterdir())
    ]
    assert kept == results


def test_the_pages_hold_what_was_found_and_come_out_the_same(played: Any, tiny: Path, tmp_path: Path) -> None:
    results, settings = played[0], load_evaluation(tiny)
    files = write_pages(tmp_path / "a", settings, results, scores_of(results))
    again = write_pages(tmp_path / "b", settings, results, scores_of(results))
    for name in ("episodes", "scores", "page", "plot"):
        assert getattr(files, name).read_bytes() == getattr(again, name).read_bytes(), name
    rows = pq.read_table(files.episodes).to_pylist()
    assert [row["policy"] for row in rows] == [result.policy for result in results]
    assert list(rows[0]) == list(COLUMNS)
    assert json.loads(files.scores.read_text())["policies"][2]["policy"] == "oracle"
    page = files.page.read_text()
    assert "| oracle | privileged |" in page
    assert "## Pairs" in page


async def test_what_can_not_be_is_refused_before_anything_is_played(tiny: Path, tmp_path: Path) -> None:
    settings = load_evaluation(tiny)
    for names, message in (
        (("nop",), "did you mean 'noop'"),
        (("noop", "noop"), "given twice"),
        (("nowhere.at_all:make",), "can't be imported"),
        ((), "no policy"),
    ):
        with pytest.raises(UsageError, match=message):
            await evaluate(settings, names, data_dir=tmp_path)
    for wrong, message in (
        ("{type: set_workload, users: 1}", "outside the action space"),
        ("{type: restart, target: chekout}", "checkout"),
    ):
        file = tmp_path / "wrong.yaml"
        file.write_text(TINY.replace("{type: restart, target: cart}", wrong))
        with pytest.raises(ConfigurationError, match=message):
            load_evaluation(file)
