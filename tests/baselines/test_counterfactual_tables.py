"""Branches come back from disk as they were written, each column says what it is, and a file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from otel_control_gym.baselines.counterfactual_tables import (
    CELLS_SCHEMA,
    COUNTERFACTUALS_FILE,
    COUNTERFACTUALS_SCHEMA,
    CounterfactualBranch,
    branches_table,
    read_branches,
    write_table,
)
from otel_control_gym.engine.errors import DatasetError

ROW = CounterfactualBranch(
    pair_id="01A-4-0",
    run_id="01A",
    family_id="00ff",
    stratum="randomised",
    service_config="small-core",
    decision_step=4,
    time_us=1_767_571_200_000_000,
    action_id="abc",
    alternative_index=1,
    alternative='{"target":"cart","type":"restart"}',
    action_type="restart",
    target="cart",
    is_logged=True,
    probability=1 / 9,
    number=0,
    step_s=30,
    horizon_s=90,
    reward_1=0.9,
    reward_3=2.7,
    reward_10=None,
    status="applied",
    done_reason=None,
)
NOOP = msgspec.structs.replace(
    ROW, alternative_index=0, alternative='{"type":"noop"}', action_type="noop", target=None, is_logged=False
)


def test_branches_come_back_sorted_with_what_isnt_known_as_none(tmp_path: Path) -> None:
    write_table(branches_table([ROW, NOOP]), tmp_path / COUNTERFACTUALS_FILE)
    assert read_branches(tmp_path) == [NOOP, ROW]
    assert [path.name for path in tmp_path.iterdir()] == [COUNTERFACTUALS_FILE]  # no draft is left


def test_the_same_rows_give_the_same_bytes_whatever_their_order(tmp_path: Path) -> None:
    for name, rows in (("one", [ROW, NOOP]), ("other", [NOOP, ROW])):
        write_table(branches_table(rows), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_every_column_says_its_unit_and_what_it_means_in_the_file(tmp_path: Path) -> None:
    write_table(branches_table([ROW]), tmp_path / COUNTERFACTUALS_FILE)
    for field in (*pq.read_schema(tmp_path / COUNTERFACTUALS_FILE), *CELLS_SCHEMA):
        assert b"unit" in field.metadata
        assert field.metadata[b"description"], field.name
    assert pq.read_schema(tmp_path / COUNTERFACTUALS_FILE).equals(COUNTERFACTUALS_SCHEMA)


def test_a_campaign_without_branches_and_a_broken_file_are_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="ocg campaign counterfactual mvp"):
        read_branches(tmp_path / "campaign=mvp")
    (tmp_path / COUNTERFACTUALS_FILE).write_bytes(b"no Parquet")
    with pytest.raises(DatasetError, match="can't be read"):
        read_branches(tmp_path)
