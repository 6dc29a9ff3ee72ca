"""`ocg baseline` trains and scores on run directories alone, and says the same in words and in JSON; so does the benchmark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from otel_control_gym.baselines.headline import PREDICTIONS_SCHEMA
from otel_control_gym.engine.command_line.app import app

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def data_dir(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of six copies of one run, each called a family of its own."""
    data = tmp_path_factory.mktemp("few")
    campaign = data / "campaign=few"
    families = []
    for number in range(6):
        run = campaign / run_directory.parent.name / f"{run_directory.name[:-1]}{number}"
        shutil.copytree(run_directory, run)
        metadata = json.loads((run / "metadata.json").read_text())
        families.append(f"family-{number}")
        metadata |= {"family_id": families[-1], "run_id": run.name.removeprefix("run_")}
        (run / "metadata.json").write_text(json.dumps(metadata))
    (campaign / "splits").mkdir()
    parts = {"train": families[:3], "validation": families[3:4], "test": families[4:]}
    (campaign / "splits" / "iid.json").write_text(json.dumps({"parts": parts, "digest": "few"}))
    return data


def ocg(data_dir: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["baseline", *arguments, "--data-dir", str(data_dir)])
    return result.exit_code, result.stdout + result.stderr


def test_a_model_is_trained_kept_and_scored(data_dir: Path, tmp_path: Path) -> None:
    code, answer = ocg(data_dir, "train", "next-state", "--campaign", "few", "--seeds", "1", "--json")
    assert code == 0, answer
    kept = json.loads(answer)
    assert kept["split_digest"] == "few"
    assert (data_dir / "campaign=few" / "baselines" / "next-state" / "iid" / "model.joblib").is_file()
    file = tmp_path / "predictions.parquet"
    code, answer = ocg(data_dir, "evaluate", "next-state", "--campaign", "few", "--predictions", str(file), "--json")
    assert code == 0, answer
    evaluation = json.loads(answer)
    assert set(evaluation["figures"]["action_conditioned_over_passive"]) == {"changed", "unchanged"}
    assert evaluation["families"] == 2
    assert pq.read_schema(file).equals(PREDICTIONS_SCHEMA)
    assert set(pq.read_table(file)["family_id"].to_pylist()) == {"family-4", "family-5"}
    code, answer = ocg(data_dir, "evaluate", "next-state", "--campaign", "few")
    assert code == 0
    assert "too few" in answer


def test_what_was_not_trained_is_not_scored(data_dir: Path) -> None:
    code, answer = ocg(data_dir, "evaluate", "forecast", "--campaign", "few")
    assert code == 2
    assert "`ocg baseline train forecast` does" in answer


def test_what_writes_no_predictions_is_scored_all_the_same_and_says_so_when_asked(
    data_dir: Path, tmp_path: Path
) -> None:
    code, answer = ocg(data_dir, "train", "root-cause", "--campaign", "few", "--seeds", "1")
    assert code == 0, answer
    code, answer = ocg(data_dir, "evaluate", "root-cause", "--campaign", "few")
    assert code == 0, answer
    code, answer = ocg(data_dir, "evaluate", "root-cause", "--campaign", "few", "--predictions", str(tmp_path / "file"))
    assert code == 2
    assert "root-cause writes no predictions" in answer


def test_a_split_that_there_is_not_is_told(data_dir: Path) -> None:
    code, answer = ocg(data_dir, "train", "reward", "--campaign", "few", "--split", "idd")
    assert code == 2
    assert "there is no split 'idd'" in answer
    assert "iid" in answer


def test_a_campaign_that_there_is_not_is_told(data_dir: Path) -> None:
    code, answer = ocg(data_dir, "train", "reward", "--campaign", "fewer")
    assert code == 2
    assert "there is no campaign 'fewer'" in answer


def test_the_baselines_are_listed(data_dir: Path) -> None:
    code, answer = ocg(data_dir, "list", "--json")
    assert code == 0
    assert {"next-state", "forecast", "reward"} <= {entry["name"] for entry in json.loads(answer)["baselines"]}


def test_the_benchmark_runs_small(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    subprocess.run(
        [
            sys.executable,
            str(BENCHMARKS / "baseline_times.py"),
            str(data_dir / "campaign=few"),
            "reward",
            "--seeds",
            "1",
            "--out",
            str(out),
        ],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS), "PYTHONSAFEPATH": "1"},
    )
    figures = {one["name"]: one for one in json.loads(out.read_text())["measurements"]}
    assert figures["baseline reward: trained"]["value"] > 0
    assert figures["baseline reward: 8 candidates of a live decision judged"]["value"] > 0
