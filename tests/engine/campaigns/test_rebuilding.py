"""A rebuilt campaign is what its runs would be if each were rebuilt alone, wherever the work was done and however often it was cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.campaigns.rebuilding import RunRebuild, rebuild_campaign
from otel_control_gym.engine.campaigns.report import write_report

RunsOf = Callable[[Path], list[Path]]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_each_run_is_what_it_would_be_alone_and_the_campaign_can_be_read(
    played: Path, runs_of: RunsOf, tmp_path: Path
) -> None:
    result = rebuild_campaign(played, [30, 60], out=tmp_path, processes=2)
    assert (result.rebuilt, result.kept, result.failed, result.processes) == (3, 0, {}, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["granularity=30s", "granularity=60s"]
    for run in runs_of(played):
        alone = ocg.rebuild(run, bucket_seconds=30, out=tmp_path / "alone" / run.name)
        assert content(tmp_path / "granularity=30s" / played.name / run.relative_to(played)) == content(alone)
    runs = ocg.open_runs(tmp_path / "granularity=60s", campaign="short", truth=True)
    assert [run.run_id for run in runs] == [run.run_id for run in ocg.open_runs(played)]
    assert {run.metadata["granularity_config"]["observation_bucket_seconds"] for run in runs} == {60}
    assert ocg.validate(tmp_path / "granularity=60s", log=False) == []
    assert write_report(tmp_path / "granularity=30s" / played.name).missing == 0


def test_what_is_there_is_not_made_again_and_what_is_not_whole_is(
    played: Path, runs_of: RunsOf, tmp_path: Path
) -> None:
    rebuild_campaign(played, [30], out=tmp_path, processes=1)
    first, second, _ = runs_of(tmp_path / "granularity=30s" / played.name)
    whole = content(second)
    (second / "metadata.json").unlink()  # as if it had been cut off
    stamp = (first / "metadata.json").stat().st_mtime_ns
    told: list[RunRebuild] = []
    again = rebuild_campaign(played, [30], out=tmp_path, processes=1, progress=told.append)
    assert (again.rebuilt, again.kept) == (1, 2)
    assert [outcome.made for outcome in told] == [0, 1, 0]
    assert (first / "metadata.json").stat().st_mtime_ns == stamp
    assert content(second) == whole


def test_a_run_that_cannot_be_rebuilt_is_told_and_the_others_are_made(
    copied: Path, runs_of: RunsOf, tmp_path: Path
) -> None:
    broken = runs_of(copied)[1]
    archive = broken / "event_log.zst"
    archive.write_bytes(archive.read_bytes()[:-100])
    result = rebuild_campaign(copied, [30], out=tmp_path / "out", processes=1)
    assert result.rebuilt == 2
    assert list(result.failed) == [str(broken)]
    made = runs_of(tmp_path / "out" / "granularity=30s" / copied.name)
    assert [run.name for run in made] == [run.name for run in runs_of(copied) if run != broken]


def test_a_width_that_the_logs_cannot_answer_is_refused_before_anything_is_made(played: Path, tmp_path: Path) -> None:
    with pytest.raises(ocg.ConfigurationError, match="no multiple of scrape_interval_seconds"):
        rebuild_campaign(played, [7], out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ocg.UsageError, match="each width once"):
        rebuild_campaign(played, [30, 30], out=tmp_path)
    with pytest.raises(ocg.UsageError, match=r"no runs of a campaign 'long'.*\n.*short"):
        rebuild_campaign(played.with_name("campaign=long"), [30], out=tmp_path)


def test_splits_and_plan_go_with_the_runs(played: Path, tmp_path: Path) -> None:
    rebuild_campaign(played, [60], out=tmp_path, processes=1)
    target = tmp_path / "granularity=60s" / played.name
    for name in ("plan.json", "balance.json", "splits/iid.json"):
        assert json.loads((target / name).read_text()) == json.loads((played / name).read_text())
