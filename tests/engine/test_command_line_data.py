"""The commands around data on disk: what they print can be relied on, and a damage or a breach shows in the exit code."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
from otel_control_gym.engine.archive_reader import ArchiveReader
from otel_control_gym.engine.command_line.app import app
from otel_control_gym.engine.run_checks import all_rules


class Answer:
    """What a command said, and its exit code."""

    def __init__(self, *arguments: str | Path) -> None:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def test_schema_lists_the_files_and_prints_one(run_directory: Path) -> None:
    assert "metadata.json" in Answer("schema").out
    assert set(Answer("schema", "--json").document) >= {"metadata.json", "graph.json"}
    printed = Answer("schema", "graph.json")
    assert printed.document == Answer("schema", "graph.json", "--json").document
    assert printed.document["$schema"].endswith("2020-12/schema")
    unknown = Answer("schema", "spans.parquet")
    assert (unknown.code, "accepted: coroot_findings.json" in unknown.err) == (2, True)


# --- validate -------------------------------------------------------------------------------------------------------------


def test_the_rules_are_listed_and_documented() -> None:
    assert Answer("validate", "--rules", "--json").document == all_rules()
    listed = Answer("validate", "--rules").out
    page = (Path(__file__).parents[2] / "docs" / "reference" / "rules.md").read_text()
    for rule in all_rules():
        assert rule in listed
        assert f"| `{rule}` |" in page


def test_a_whole_data_directory_and_several_runs_are_validated(run_directory: Path, kept_run: Path) -> None:
    data = run_directory.parents[2]
    whole = Answer("validate", data, "--json")
    assert (whole.code, whole.document["valid"], len(whole.document["runs"])) == (0, True, 1)
    both = Answer("validate", run_directory, kept_run, "--json").document
    assert [run["valid"] for run in both["runs"]] == [True, False]
    assert [(entry["rule"], entry["path"]) for entry in both["violations"]] == [("contract-version", str(kept_run))]


def test_a_changed_number_is_found_and_quickly_only_by_its_digest(run_directory: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_directory, tmp_path / run_directory.name))
    graph = json.loads((copy / "graph.json").read_text())
    (copy / "graph.json").write_text(json.dumps(graph | {"edges": graph["edges"][::-1]}))
    found = Answer("validate", copy)
    assert found.code == 1
    assert "fold  graph.json: not the fold of the log" in found.out
    quick = Answer("validate", copy, "--quick", "--json")
    assert [entry["rule"] for entry in quick.document["violations"]] == ["file-digest"]


def test_a_void_run_is_told_with_its_reason(run_directory: Path, tmp_path: Path) -> None:
    void = Path(shutil.copytree(run_directory, tmp_path / run_directory.name))
    metadata = json.loads((void / "metadata.json").read_text())
    metadata |= {"status": "void", "void_rule": "oom-before-onset", "void_reason": "cart-1 was OOM-killed"}
    (void / "metadata.json").write_text(json.dumps(metadata))
    told = " ".join(Answer("show", void).out.split())
    assert "void by oom-before-onset: cart-1 was OOM-killed" in told
    summary = Answer("show", void, "--json").document["summary"]
    assert (summary["status"], summary["void_rule"]) == ("void", "oom-before-onset")
    assert "void by" not in Answer("show", run_directory).out


def test_validate_without_a_run_says_what_it_wants() -> None:
    answer = Answer("validate")
    assert (answer.code, "which run?" in answer.err) == (2, True)


# --- log ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(run_directory: Path, tmp_path: Path) -> Path:
    answer = Answer("log", "export", run_directory, "--out", tmp_path / "log.zst", "--json")
    assert answer.code == 0
    assert answer.document["sha256"] == hashlib.sha256((tmp_path / "log.zst").read_bytes()).hexdigest()
    return tmp_path / "log.zst"


def test_an_exported_log_is_the_file_of_the_run(run_directory: Path, exported: Path) -> None:
    assert exported.read_bytes() == (run_directory / ARCHIVE_NAME).read_bytes()
    again = Answer("log", "export", run_directory, "--out", exported)
    assert (again.code, "exists" in again.err) == (2, True)


@pytest.fixture(scope="module")
def place(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """Options of commands: a data directory without runs, and the session's broker."""
    return ("--data-dir", tmp_path_factory.mktemp("empty"), "--nats", broker_url)


@pytest.fixture(scope="module")
def passed_through(
    run_directory: Path, place: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run's log, imported into a broker and exported again."""
    archive = run_directory / ARCHIVE_NAME
    imported = Answer("log", "import", archive, *place, "--json").document
    assert (imported["whole"], imported["messages"]) == (True, len(list(read_archive(archive))))
    file = tmp_path_factory.mktemp("logs") / "again.zst"
    exported = Answer("log", "export", imported["run_id"], "--out", file, *place, "--json").document
    assert exported["content_digest"] == imported["content_digest"]
    return file


def messages(path: Path) -> list[Any]:
    return [message for batch in ArchiveReader(path).batches() for message in batch]


def test_a_log_goes_into_a_broker_and_comes_out_bit_for_bit(
    run_directory: Path, passed_through: Path, place: tuple[str | Path, ...]
) -> None:
    assert messages(passed_through) == messages(run_directory / ARCHIVE_NAME)
    listed = {run["run_id"]: run for run in Answer("log", "list", *place, "--json").document}
    found = Answer("log", "verify", passed_through, "--json").document
    assert listed[found["run_id"]]["public_messages"] == found["public_sequence"]
    assert found["run_id"] in Answer("log", "list", *place).out
    twice = Answer("log", "import", passed_through, *place)
    assert (twice.code, "exists already" in twice.err) == (2, True)


def test_a_damaged_log_is_told_and_what_lies_before_is_had_back_on_request(
    passed_through: Path, tmp_path: Path
) -> None:
    assert Answer("log", "verify", passed_through).code == 0
    damaged = tmp_path / "damaged.zst"
    damaged.write_bytes(passed_through.read_bytes()[: passed_through.stat().st_size * 2 // 3])
    verified = Answer("log", "verify", damaged, "--json")
    assert (verified.code, verified.document["whole"]) == (1, False)
    assert 0 < verified.document["messages"] < len(messages(passed_through))
    assert "cut off" in verified.document["damage"]
    told = Answer("log", "verify", damaged).out
    assert f"{verified.document['messages']} events before the damage" in told
    assert f"until {verified.document['until']}" in told
    assert Answer("log", "show", damaged).code == 2
    shown = Answer("log", "show", damaged, "--truth", "--recover", "--json").document
    assert len(shown) == verified.document["messages"]


def test_a_damaged_log_is_imported_on_request_alone(passed_through: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.zst"
    damaged.write_bytes(passed_through.read_bytes()[: passed_through.stat().st_size * 2 // 3])
    refused = Answer("log", "import", damaged, "--data-dir", tmp_path / "data")
    assert (refused.code, "can be recovered" in refused.err) == (2, True)
    imported = Answer("log", "import", damaged, "--recover", "--data-dir", tmp_path / "data", "--json").document
    listed = Answer("log", "list", "--data-dir", tmp_path / "data", "--json").document
    assert [(run["run_id"], run["status"]) for run in listed] == [(imported["run_id"], "unfinished")]
    assert listed[0]["public_messages"] == imported["public_sequence"] > 0


def test_truth_is_shown_on_request_alone(exported: Path) -> None:
    assert "truth.declared" not in Answer("log", "show", exported).out
    assert "truth.declared" in Answer("log", "show", exported, "--truth").out


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    answer = Answer("log", "verify", tmp_path / "missing.zst")
    assert (answer.code, "missing.zst" in answer.err) == (2, True)
