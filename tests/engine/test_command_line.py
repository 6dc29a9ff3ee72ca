"""The command line: answers on standard output, one clear message for a mistake, exit codes that scripts can rely on."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from otel_control_gym.engine.command_line.app import app
from otel_control_gym.engine.command_line.progress import clock_text
from otel_control_gym.engine.command_line.rebuild import parse_bucket
from otel_control_gym.engine.command_line.telling import SPARKLINE_CHARACTERS, sparkline, suggest
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.locks import locked_file
from otel_control_gym.engine.plot import plot_summary
from otel_control_gym.engine.summary import Track, summarise

COMMANDS = (
    "run",
    "rebuild",
    "tail",
    "runs",
    "show",
    "validate",
    "schema",
    "log export",
    "log import",
    "config show",
    "twin serve",
)
OCG = (sys.executable, "-c", "from otel_control_gym.engine.command_line import main; main()")
HEAVY = (
    "aiohttp",
    "kubernetes_asyncio",
    "matplotlib",
    "nats",
    "numba",
    "numpy",
    "prometheus_client",
    "pyarrow",
    "trustme",
)
STORY = {
    "name": "story",
    "horizon_seconds": 120,
    "interventions": [
        {"at_seconds": 30, "action": {"type": "cpu_pressure", "target": "frontend", "duration_seconds": 30}}
    ],
    "policy": {
        "name": "scripted",
        "actions": [
            {"at_seconds": 30, "action": {"type": "scale", "target": "frontend", "replicas": 2}},
            {"at_seconds": 60, "action": {"type": "scale", "target": "postgresql", "replicas": 2}},
        ],
    },
}


class Answer:
    """What a command said, and its exit code."""

    def __init__(self, *arguments: str | Path) -> None:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with one short run in it, made by the command line."""
    directory = tmp_path_factory.mktemp("data")
    scenario = directory / "story.yaml"
    scenario.write_text(yaml.safe_dump(STORY), encoding="utf-8")
    ran = Answer("run", scenario, "--seed", "7", "--data-dir", directory, "--json")
    assert ran.code == 0, ran.err
    return directory


def run_directory(data_dir: Path) -> Path:
    return Path(Answer("runs", "--json", "--data-dir", data_dir).document[0]["path"])


# --- the answers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_common_options(command: str) -> None:
    helped = Answer(*command.split(), "--help")
    assert helped.code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", helped.out)
    for option in ("--json", "--data-dir", "--nats", "--verbose", "--debug"):
        assert option in plain


def test_help_imports_nothing_heavy() -> None:
    script = f"import sys, otel_control_gym.engine.command_line.app; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_runs_lists_each_run_with_its_status_and_place(data_dir: Path) -> None:
    (run,) = Answer("runs", "--json", "--data-dir", data_dir).document
    assert set(run) == {"run_id", "status", "path"}
    assert run["status"] == "completed"
    assert Path(run["path"]).name == f"run_{run['run_id']}"
    told = Answer("runs", "--data-dir", data_dir)
    assert run["run_id"] in told.out


def test_runs_shows_what_is_running_and_what_crashed(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "CRASHED.lock").touch()
    held = locked_file(tmp_path / "locks" / "RUNNING.lock")
    assert held is not None
    try:
        found = Answer("runs", "--json", "--data-dir", tmp_path).document
        told = Answer("runs", "--data-dir", tmp_path).out
    finally:
        os.close(held)
    assert found == [
        {"run_id": "CRASHED", "status": "crashed", "path": None},
        {"run_id": "RUNNING", "status": "running", "path": None},
    ]
    assert "the next `ocg run` puts crashed runs in order" in told


def test_runs_says_so_when_there_are_none(tmp_path: Path) -> None:
    assert Answer("runs", "--json", "--data-dir", tmp_path).document == []
    assert "no runs" in Answer("runs", "--data-dir", tmp_path).out


def test_show_tells_and_draws_what_happened(data_dir: Path, tmp_path: Path) -> None:
    picture = tmp_path / "deep" / "picture.svg"
    shown = Answer("show", "latest", "--json", "--plot", picture, "--data-dir", data_dir).document
    assert shown["plot"] == str(picture)
    assert picture.stat().st_size > 0
    happened = [
        (deed["seconds"], deed["action_class"], deed["action_type"], deed["status"])
        for deed in shown["summary"]["actions"]
    ]
    assert happened == [
        (30, "intervention", "cpu_pressure", "applied"),
        (30, "action", "scale", "applied"),
        (60, "action", "scale", "rejected"),
    ]
    told = Answer("show", "--plot", picture, "--data-dir", data_dir).out
    for word in ("What happened", "cpu_pressure frontend", "rejected", "reward", "SLO", "latency p95", str(picture)):
        assert word in told


def test_the_same_run_is_drawn_in_the_same_bytes(data_dir: Path, tmp_path: Path) -> None:
    summary = summarise(run_directory(data_dir))
    for name in ("a.svg", "b.svg"):
        plot_summary(summary, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_summary_covers_warm_up_control_and_cool_down(data_dir: Path) -> None:
    summary = summarise(run_directory(data_dir))
    assert (summary.decisions, summary.control_seconds) == (4, 120)
    assert summary.reward.seconds[0] == -60
    assert summary.reward.seconds[-1] == 120
    frontend = summary.service("frontend")
    assert max(frontend.replicas_ready.known()) == 2
    assert len(frontend.cpu_saturation.seconds) == (60 + 120 + 30) // 10


def test_validate_finds_nothing_wrong_with_a_fresh_run(data_dir: Path) -> None:
    checked = Answer("validate", run_directory(data_dir), "--json")
    assert checked.document["violations"] == []
    assert checked.document["valid"]
    assert checked.code == 0


def test_validate_answers_1_for_a_dataset_that_breaks_the_contract(data_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in run_directory(data_dir).iterdir():
        if file.name != "labels.parquet":
            (broken / file.name).write_bytes(file.read_bytes())
    checked = Answer("validate", broken, "--json")
    assert checked.code == 1
    assert not checked.document["valid"]
    assert any("labels.parquet" in violation["file"] for violation in checked.document["violations"])


def test_rebuild_folds_the_log_at_another_bucket(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "coarse"
    rebuilt = Answer("rebuild", "latest", "--bucket", "30s", "--out", out, "--data-dir", data_dir, "--json").document
    assert (rebuilt["bucket_seconds"], rebuilt["path"]) == (30, str(out))
    assert summarise(out).bucket_seconds == 30
    assert summarise(out).reward == summarise(run_directory(data_dir)).reward


def test_rebuild_makes_several_datasets_in_one_pass(data_dir: Path, tmp_path: Path) -> None:
    arguments = (
        "--bucket",
        "10s",
        "--bucket",
        "1m",
        "--set",
        "reward_bucket_seconds=2m",
        "--out",
        tmp_path / "rebuilt",
    )
    rebuilt = Answer("rebuild", "latest", *arguments, "--data-dir", data_dir, "--json").document
    granularities = [dataset["granularity_config"] for dataset in rebuilt["datasets"]]
    assert [granularity["observation_bucket_seconds"] for granularity in granularities] == [10, 60]
    assert [granularity["reward_bucket_seconds"] for granularity in granularities] == [120, 120]
    paths = [Path(dataset["path"]) for dataset in rebuilt["datasets"]]
    assert sorted(paths) == sorted((tmp_path / "rebuilt").iterdir())
    told = Answer("rebuild", "latest", *arguments[:-1], tmp_path / "again", "--data-dir", data_dir).out
    assert told.count("rebuilt: ") == 2


def test_a_fact_of_the_run_cannot_be_rebuilt_otherwise(data_dir: Path, tmp_path: Path) -> None:
    arguments = ("--set", "control_step_seconds=10s", "--out", tmp_path / "other", "--data-dir", data_dir)
    message = mistaken("rebuild", "latest", *arguments)
    assert "control_step_seconds = 10" in message
    assert "the run has control_step_seconds = 30" in message
    assert not (tmp_path / "other").exists()
    assert "no value" in mistaken("rebuild", "latest", "--set", "reward_bucket_seconds", "--data-dir", data_dir)


def test_tail_gives_every_public_event_and_no_truth(data_dir: Path) -> None:
    events = Answer("tail", "latest", "--json", "--data-dir", data_dir).document
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[-1]["type"]) == ("run.declared.1", "run.ended.1")
    assert not any(event["type"].startswith("truth.") for event in events)
    assert "cpu_pressure" not in json.dumps(events)
    told = Answer("tail", "--data-dir", data_dir).out
    assert len(told.splitlines()) == len(events)


def test_config_show_prints_what_would_be_run() -> None:
    assert Answer("config", "show", "small-core", "--seed", "3", "--json").document["seed"] == 3
    assert yaml.safe_load(Answer("config", "show", "quickstart").out)["scenario"]["name"] == "quickstart"


def test_the_same_seed_gives_the_same_digest_and_another_seed_another(data_dir: Path, tmp_path: Path) -> None:
    first = summarise(run_directory(data_dir)).content_digest
    digests = [
        Answer("run", data_dir / "story.yaml", "--seed", seed, "--data-dir", tmp_path, "--json").document[
            "content_digest"
        ]
        for seed in ("7", "8")
    ]
    assert digests[0] == first
    assert digests[1] != first


# --- the mistakes -----------------------------------------------------------------------------------------------------------


def mistaken(*arguments: str | Path) -> str:
    """Return the one message of a command that must fail with exit code 2 and say nothing else."""
    answer = Answer(*arguments)
    assert answer.code == 2, answer.out
    assert answer.out == ""
    assert "Traceback" not in answer.err
    return answer.err


def scenario(file: Path, **change: Any) -> Path:
    file.write_text(yaml.safe_dump(STORY | change), encoding="utf-8")
    return file


def planned(**action: Any) -> list[dict[str, Any]]:
    return [{"at_seconds": 0, "action": action}]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"services": "small-cor"}, "did you mean 'small-core'?"),
        ({"interventions": planned(type="cpu_pressure", target="frontent")}, "did you mean 'frontend'?"),
        ({"interventions": planned(type="cpu_presure", target="frontend")}, "did you mean 'cpu_pressure'?"),
        ({"policy": {"name": "scripted", "actions": planned(type="scale", target="cart", replicas=-1)}}, "replicas"),
        ({"policy": {"name": "scripted", "actions": planned(type="scale", target="cart", replica=1)}}, "replicas"),
        ({"horizon_seconds": 100}, "control_step_seconds = 30"),
    ],
)
def test_a_scenario_that_can_not_be_run_is_refused_before_anything_is_made(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    message = mistaken("run", scenario(tmp_path / "mine.yaml", **change), "--data-dir", tmp_path / "data")
    assert words in message
    assert not (tmp_path / "data").exists()


def test_a_mistake_is_a_json_document_too(tmp_path: Path) -> None:
    answer = Answer("run", "quikstart", "--json", "--data-dir", tmp_path)
    assert answer.code == 2
    assert answer.document["error"]["type"] == "UsageError"
    assert "did you mean 'quickstart'?" in answer.document["error"]["message"]


def test_a_debugged_mistake_shows_where_it_happened() -> None:
    ran = subprocess.run([*OCG, "run", "quikstart", "--debug"], capture_output=True, text=True, check=False)
    assert "Traceback" in ran.stderr
    assert ran.returncode != 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "nowhere/mine.yaml"), "nowhere/mine.yaml"),
        (("run", "--pace", "-1"), "--pace -1"),
        (("run", "--horizon", "100"), "control_step_seconds = 30"),
        (("run", "--workload", "stedy"), "did you mean 'steady'?"),
        (("show", "latest"), "no runs"),
        (("tail", "latest"), "no runs"),
        (("rebuild", "01J"), "no runs"),
        (("validate", "latest"), "no runs"),
    ],
)
def test_a_wrong_argument_gets_one_clear_message(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in mistaken(*arguments, "--data-dir", tmp_path)


def test_an_unknown_option_is_wrong_input() -> None:
    assert Answer("run", "--sed", "7").code == 2


def test_a_bucket_finer_than_the_scrape_is_refused_with_both_values(data_dir: Path, tmp_path: Path) -> None:
    message = mistaken("rebuild", "latest", "--bucket", "3s", "--out", tmp_path / "fine", "--data-dir", data_dir)
    assert "3" in message
    assert "scrape_interval_seconds = 5" in message
    assert not (tmp_path / "fine").exists()


def test_a_picture_of_no_known_kind_is_refused(data_dir: Path, tmp_path: Path) -> None:
    assert ".png" in mistaken("show", "--plot", tmp_path / "picture.txt", "--data-dir", data_dir)


def test_a_broker_that_is_down_is_named(tmp_path: Path) -> None:
    message = mistaken("run", "small-core", "--nats", "nats://127.0.0.1:9", "--data-dir", tmp_path)
    assert "127.0.0.1:9" in message
    assert not list(tmp_path.glob("campaign=*"))


def test_a_data_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.touch()
    assert str(file) in mistaken("run", "small-core", "--data-dir", file)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_in_order_and_keeps_what_it_has(tmp_path: Path, sent: signal.Signals) -> None:
    process = subprocess.Popen(
        [*OCG, "run", "small-core", "--pace", "20", "-v", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "step   0" in process.stderr.readline()  # control has begun
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the run so far is kept" in said
    assert "interrupted" in said
    (run,) = Answer("runs", "--json", "--data-dir", tmp_path).document
    assert run["status"] == "aborted"
    assert Answer("validate", run["path"], "--json").document["violations"] == []


# --- words and bars ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (330, "5:30"), (-60, "-1:00"), (3661, "1:01:01"), (-0.2, "0:00")]
)
def test_times_are_written_as_people_write_them(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1m", 60), ("30", 30), ("2 min", 120), ("1h", 3600)])
def test_a_bucket_is_read_in_the_units_of_people(text: str, seconds: int) -> None:
    assert parse_bucket(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-30s", "1.5s", "soon"])
def test_a_bucket_that_is_no_width_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_bucket(text)


def track(values: list[float | None], seconds: int = 10) -> Track:
    return Track(unit="1", seconds=[float(seconds * number) for number in range(len(values))], values=values)


def test_a_sparkline_rises_with_its_values_and_leaves_gaps_blank() -> None:
    bars = sparkline(track([0.0, None, 1.0]), 0, 30)
    third = SPARKLINE_CHARACTERS // 3
    assert bars == "▁" * third + " " * third + "█" * third


def test_sparklines_of_one_span_of_time_are_equally_long_whatever_their_buckets() -> None:
    fine, coarse = (
        track([float(number) for number in range(90)], 10),
        track([float(number) for number in range(30)], 30),
    )
    assert len(sparkline(fine, 0, 900)) == len(sparkline(coarse, 0, 900)) == SPARKLINE_CHARACTERS


def test_a_sparkline_of_nothing_is_blank() -> None:
    assert sparkline(track([None, None]), 0, 20).strip() == ""


def test_suggested_commands_can_be_pasted_whatever_the_directory_is_called(tmp_path: Path) -> None:
    data_dir = tmp_path / "my data; it's Δ"
    output = io.StringIO()
    suggest(Console(file=output, width=1000), data_dir)
    suggested = [line for line in output.getvalue().splitlines() if "--data-dir" in line]
    assert len(suggested) == 4
    for line in suggested:
        words = shlex.split(line)
        assert words[words.index("--data-dir") + 1] == str(data_dir)
