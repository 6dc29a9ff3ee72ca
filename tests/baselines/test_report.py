"""The report says what the figures say, "too few" where they are too few, and which command makes what isn't there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.baselines.catalogue import EVALUATION_FILE, kept_evaluation
from otel_control_gym.baselines.evaluations import Evaluation, Table
from otel_control_gym.baselines.headline import Ratio
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.report import write_answers
from otel_control_gym.baselines.report_parts import Section
from otel_control_gym.baselines.report_sections import (
    cause_section,
    edges_section,
    effects_section,
    headline_section,
)
from otel_control_gym.baselines.treatment_effects import AverageEffect
from otel_control_gym.engine.rebuild import rebuild

TABLE = Table(title="A table", columns=("model", "error"), rows=(("a|b", 1.0), ("<i>", None)), note="a note")
KEPT = Path(__file__).parents[1] / "contract" / "version_1"


def ratio(value: float, reach: float = 0.02, families: int = 24) -> Ratio:
    return Ratio(
        ratio=value,
        low=value - reach,
        high=value + reach,
        families=families,
        cells=100,
        detectable=2 * reach,
        too_few=families < 12,
    )


def spread(value: float, reach: float = 0.02, families: int = 24) -> Interval:
    return Interval(value=value, low=value - reach, high=value + reach, families=families, detectable=2 * reach)


def kept(baseline: str, figures: Mapping[str, Any]) -> Evaluation:
    """Return an evaluation as it comes back from its file."""
    made = Evaluation(
        baseline=baseline, campaign="small", split="crossed", families=24, tables=(TABLE, TABLE), figures=figures
    )
    return msgspec.json.decode(msgspec.json.encode(made), type=Evaluation)


def next_state(changed: Ratio, unchanged: Ratio, *, edge: float = 0.9) -> Evaluation:
    both = {"changed": changed, "unchanged": unchanged}
    errors = {
        f"after an action/{kind}/{group}/{horizon}": {
            "boosted direct, action known": spread(edge if kind == "edge" else 0.7),
            "persistence": spread(1.0),
        }
        for kind in ("node", "edge")
        for group in ("traffic", "errors", "latency")
        for horizon in (1, 3)
    }
    by_group = {"traffic": both, "cpu": {**both, "changed": ratio(0.5, families=3)}}
    parts = {
        "feature_group": {"randomised": by_group, "all": by_group},
        "configuration": {"randomised": {"small-core": both}, "all": {"small-core": both}},
    }
    figures = {
        "action_conditioned_over_passive": both,
        "ratios": {"all/boosted/direct": both},
        "ratios_by": parts,
        "errors": errors,
    }
    return kept("next-state", figures)


def text(section: Section) -> str:
    return "\n".join(section.answers)


def test_a_ratio_below_one_with_all_of_its_interval_is_a_win() -> None:
    section = headline_section(next_state(ratio(0.9), ratio(1.0)), ["make it"])
    assert "0.900 (0.880 to 0.920) over 24 families: knowing the action helps" in text(section)
    assert "1.000 (0.980 to 1.020) over 24 families: no worse" in text(section)
    assert "By application, the upper bound is below 1 in 1 of 1 (small-core)" in text(section)
    assert "too few families to say: cpu" in text(section)
    assert section.figures["changed"]["ratio"] == 0.9
    assert not section.wanting


def test_an_interval_around_one_claims_nothing() -> None:
    section = headline_section(next_state(ratio(0.99), ratio(1.04)), [])
    assert "it can't be told" in text(section)
    assert "not shown to be no worse" in text(section)


def test_few_families_claim_nothing_whatever_the_ratio() -> None:
    section = headline_section(next_state(ratio(0.5, families=11), ratio(1.0)), [])
    assert "too few families (11), so nothing is claimed" in text(section)


def test_without_any_cell_the_branches_are_asked_for() -> None:
    nothing = msgspec.structs.replace(ratio(0.9), ratio=None, low=None, high=None, families=0, cells=0, too_few=True)
    section = headline_section(next_state(nothing, nothing), ["ocg campaign counterfactual small"])
    assert section.wanting == ("ocg campaign counterfactual small",)


@pytest.mark.parametrize(
    ("edge", "verdict"), [(0.9, "edges are harder"), (0.71, "about as hard"), (0.5, "services are harder")]
)
def test_edges_are_harder_only_if_the_intervals_are_apart(edge: float, verdict: str) -> None:
    section = edges_section(next_state(ratio(0.9), ratio(1.0), edge=edge), [])
    assert all(sentence.endswith(f"{verdict}.") for sentence in section.answers)
    assert len(section.answers) == 3


def test_effects_are_sorted_by_what_their_intervals_say() -> None:
    averages = [
        AverageEffect(action_type=name, horizon_steps=10, decisions=30, effect=effect, harmed=0.5)
        for name, effect in (
            ("scale", spread(0.5, 0.1)),
            ("restart", spread(-0.5, 0.1)),
            ("set_resources", spread(0.05, 0.1)),
            ("shift_traffic", spread(0.5, 0.1, families=4)),
        )
    ]
    certified = [
        {
            "action_class": "action",
            "kind": "restart",
            "certificate": {"class": name, "off_target": False, "delay_s": delay},
        }
        for name, delay in (("visible", 20.0), ("none", None))
    ]
    section = effects_section(averages, kept("effect", {}), certified, ["make it"])
    assert "raise the reward: scale (0.500 (0.400 to 0.600))" in text(section)
    assert "lower it: restart" in text(section)
    assert "isn't shown of: set_resources" in text(section)
    assert "too few families to say of: shift_traffic" in text(section)
    assert section.tables[-1].rows == (("action", "restart", 2, 1, 0, 1, 0, "20 (20 to 20)"),)
    assert not section.wanting


def test_chance_is_named_where_it_isnt_beaten() -> None:
    accuracies = {"scale or cpu, dynamics": spread(0.8), "scale or cpu, telemetry": spread(0.51)}
    section = cause_section(kept("cause", {"balanced_accuracy": accuracies}), [])
    assert section.answers[0].endswith("0.800 (0.780 to 0.820), above chance.")
    assert section.answers[1].endswith("not shown to beat chance.")


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """A campaign of one run, as today's contract has it."""
    run = next(KEPT.glob("campaign=*/service_config=*/run_*"))
    directory = tmp_path / "campaign=small"
    rebuild(run, out=directory / run.parent.name / run.name)
    return directory


def keep(directory: Path, found: Evaluation) -> None:
    folder = directory / "baselines" / found.baseline / found.split
    folder.mkdir(parents=True)
    (folder / EVALUATION_FILE).write_bytes(msgspec.json.encode(found))


def test_the_pages_hold_everything_and_come_out_the_same_again(campaign: Path) -> None:
    keep(campaign, next_state(ratio(0.9), ratio(1.0)))
    written = write_answers(campaign)
    html, markdown = written.html.read_text(encoding="utf-8"), written.markdown.read_text(encoding="utf-8")
    assert written.action_conditioned_over_passive["changed"]["high"] == pytest.approx(0.92)
    assert "data:image/png;base64," in html
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
    assert "a\\|b" in markdown
    for picture in ("headline", "edges"):
        assert f"](answers_pictures/{picture}.png)" in markdown
        assert (campaign / "answers_pictures" / f"{picture}.png").is_file()
    assert "ocg baseline train streams --campaign small --split crossed" in html
    again = write_answers(campaign)
    assert again == written
    assert (again.html.read_text(encoding="utf-8"), again.markdown.read_text(encoding="utf-8")) == (html, markdown)


def test_scores_of_the_first_split_that_has_any_are_taken(tmp_path: Path) -> None:
    keep(tmp_path, msgspec.structs.replace(kept("effect", {}), split="iid"))
    found = kept_evaluation("effect", tmp_path, ["crossed", "iid"])
    assert found is not None
    assert found.split == "iid"
    assert kept_evaluation("effect", tmp_path, ["crossed"]) is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "baselines" / "effect" / "iid"
    folder.mkdir(parents=True)
    (folder / EVALUATION_FILE).write_text(json.dumps({"baseline": 1}), encoding="utf-8")
    with pytest.raises(ocg.DatasetError, match="ocg baseline evaluate effect --split iid"):
        kept_evaluation("effect", tmp_path, ["iid"])


def test_a_campaign_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ocg.UsageError, match="no campaign 'none'"):
        write_answers(tmp_path / "campaign=none")
