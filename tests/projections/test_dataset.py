"""A dataset is a function of its log: same log and granularity, same bytes; every cell is the observation's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zstandard

from otel_control_gym.engine.errors import ConfigurationError, LogCorrupted, UsageError
from otel_control_gym.engine.events import Recorded, Span, SpansCollected
from otel_control_gym.engine.settings import Granularity
from otel_control_gym.projections import fold, observation_arrays, validate, write_dataset
from otel_control_gym.projections.schemas import FILES

Entries = list[Recorded]


def table(directory: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.ParquetFile(directory / f"{name}.parquet").read().to_pylist()
    return rows


@pytest.fixture(scope="module")
def run(eventful: Entries, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "run_01TEST"
    directory.mkdir()
    (directory / "event_log.zst").write_bytes(b"an archive")
    write_dataset(eventful, directory, content_digest="abc")
    return directory


def test_every_file_of_the_contract_is_written_and_valid(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == sorted([*FILES, "event_log.zst"])
    assert validate(run) == []


def test_no_draft_is_left_beside_it(run: Path) -> None:
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_the_same_log_gives_the_same_bytes_and_so_does_its_own_granularity(
    eventful: Entries, run: Path, tmp_path: Path
) -> None:
    for name, granularity in (("again", None), ("stated", Granularity())):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "event_log.zst").write_bytes(b"an archive")
        write_dataset(eventful, directory, run_id="01TEST", content_digest="abc", granularity=granularity)
        for file in FILES:
            assert digest(directory / file) == digest(run / file), file


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_coarse_counts_are_the_sums_of_fine_ones_and_the_run_is_valid(
    eventful: Entries, run: Path, tmp_path: Path
) -> None:
    write_dataset(eventful, tmp_path / "run_01TEST", granularity=Granularity(observation_bucket_seconds=30))
    assert [violation.file for violation in validate(tmp_path / "run_01TEST")] == ["event_log.zst"]
    fine = {(row["time"], row["service"]): row["request_count"] for row in table(run, "node_features")}
    start = min(time for time, _ in fine)
    compared = 0
    for row in table(tmp_path / "run_01TEST", "node_features"):
        parts = [
            value
            for (time, service), value in fine.items()
            if service == row["service"] and 0 <= (time - row["time"]).total_seconds() < 30
        ]
        if None not in parts and row["service"] != "cache":
            assert row["request_count"] == sum(parts)
            compared += 1
    assert compared > 3
    assert start is not None


def test_a_bucket_finer_than_the_scrape_interval_is_refused_with_both_values(eventful: Entries, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)= 2:.*= 5"):
        write_dataset(eventful, tmp_path / "run_X", granularity=Granularity(observation_bucket_seconds=2))
    with pytest.raises(ConfigurationError, match=r"(?s)= 12:.*= 5"):
        write_dataset(eventful, tmp_path / "run_X", granularity=Granularity(observation_bucket_seconds=12))
    assert list(tmp_path.iterdir()) == []


def test_the_observation_is_the_table_bit_for_bit(eventful: Entries, run: Path) -> None:
    state = fold(entry for entry in eventful if not entry.truth)
    seen = observation_arrays(state, state.known_until, window_seconds=120, bucket_seconds=10)
    for name, axis, keys, numbers, mask in (
        ("node_features", [(node,) for node in seen.node_names], ("service",), seen.nodes, seen.node_mask),
        ("edge_features", list(seen.edge_names), ("source", "target", "protocol"), seen.edges, seen.edge_mask),
    ):
        features = seen.node_features if name == "node_features" else seen.edge_features
        rows = table(run, name)
        assert len(rows) == 12 * len(axis)
        for row in rows:
            bucket = int((row["time"].timestamp() - state.origin / 1e9) // 10)
            entity = axis.index(tuple(row[key] for key in keys))
            for number, feature in enumerate(features):
                known = bool(mask[bucket, entity, number])
                assert known == (row[feature] is not None)
                assert not known or row[feature] == numbers[bucket, entity, number]
    assert seen.node_mask.sum() > 200


def test_buckets_before_the_run_are_masked_and_the_shape_is_always_the_same(eventful: Entries, at: Any) -> None:
    state = fold(eventful)
    early = observation_arrays(state, at(35), window_seconds=60, bucket_seconds=10)
    assert early.nodes.shape[0] == 6
    assert early.time.tolist() == [at(seconds) for seconds in range(-30, 30, 10)]
    assert not early.node_mask[:3].any()
    assert np.isnan(early.nodes[:3]).all()
    assert early.node_mask[3:].any(axis=(1, 2)).all()


def test_what_a_policy_sees_holds_no_truth(eventful: Entries, at: Any) -> None:
    seen = observation_arrays(fold(eventful), at(120), window_seconds=120, bucket_seconds=10)
    text = repr((seen.events, seen.kubernetes_events, seen.findings, seen.log_patterns, seen.traces))
    assert "Something" in text
    for secret in ("cpu_pressure", "fault-1", "chaos", "StressChaos"):
        assert secret not in text


def test_an_event_is_linked_to_the_action_that_touched_its_object_or_an_owner_of_it(run: Path) -> None:
    rows = {(row["source"], row["message"]): row for row in table(run, "events")}
    assert rows["kubernetes", "about deployment-cart"]["caused_by_action_id"] == "scale-1"
    assert rows["kubernetes", "about pod-b"]["caused_by_action_id"] == "scale-1"
    hidden = rows["kubernetes", "about chaos-1"]
    assert (hidden["visibility"], hidden["caused_by_action_id"]) == ("truth", "fault-1")
    public = [row for row in table(run, "events") if row["visibility"] == "public"]
    assert (
        sum(row["message"] == "about deployment-cart" for row in public) == 2
    )  # the later one follows what the fault wrote
    assert all(row["caused_by_action_id"] in (None, "scale-1") for row in public)
    assert (
        rows["rollouts", "desired=1 updated=1 ready=1 available=1 generation=1/1 revision=1"]["caused_by_action_id"]
        is None
    )


def test_decisions_and_interventions_have_rows_with_their_whole_life(run: Path) -> None:
    rows = {row["action_id"]: row for row in table(run, "actions")}
    assert (rows["scale-1"]["status"], rows["scale-1"]["visibility"], rows["scale-1"]["propensity"]) == (
        "applied",
        "public",
        0.5,
    )
    assert rows["scale-2"]["error"] == "precheck: cache is stateful"
    assert (rows["fault-1"]["action_class"], rows["fault-1"]["visibility"]) == ("intervention", "truth")
    assert rows["fault-1"]["duration_s"] == 60


def test_labels_come_from_the_life_cycle(run: Path) -> None:
    rows = {row["action_id"]: row for row in table(run, "labels")}
    fault = rows["fault-1"]
    assert (fault["is_fault"], fault["fault_type"], fault["applied"], fault["end_censored"]) == (
        True,
        "cpu_pressure",
        True,
        False,
    )
    assert (fault["actual_end"] - fault["start"]).total_seconds() == 60
    assert (rows["scale-1"]["is_fault"], rows["scale-1"]["fault_type"]) == (False, None)
    assert rows["scale-2"]["applied"] is False


def test_rewards_name_the_latest_decision_before_their_bucket(run: Path) -> None:
    assert [row["action_id"] for row in table(run, "rewards")] == [None, "scale-1", "scale-2", "scale-2"]


def test_smaller_tables_hold_what_their_sources_said(run: Path) -> None:
    assert [(row["service"], row["findings"]) for row in table(run, "weak_labels")][:1] == [("cart", 1)]
    summaries = {row["operation"]: (row["top_message"], row["count"]) for row in table(run, "error_summaries")}
    assert summaries == {"GetCart": ("timeout", 1), "log": ("no cache", 1)}
    inputs = {(row["target"], row["name"]): row["value"] for row in table(run, "control_inputs")}
    assert inputs["", "offered_rate"] == 10
    assert inputs["cart", "replicas"] == 2
    assert len(table(run, "spans")) == 20
    lines = zstandard.ZstdDecompressor().decompressobj().decompress((run / "logs.jsonl.zst").read_bytes())
    assert json.loads(lines)["body"] == "no cache"
    assert json.loads((run / "coroot_findings.json").read_text())[0]["affected_services"] == ["cart"]


def test_rows_that_differ_by_less_than_a_microsecond_stand_in_the_order_of_their_keys(
    scribe: Any, at: Any, tmp_path: Path
) -> None:
    log = scribe()
    rows = tuple(
        Span(
            time=at(1) + nanoseconds,
            duration_ns=1,
            trace_id=trace,
            span_id="a",
            parent_span_id="",
            service="cart",
            peer="",
            operation="x",
            kind="server",
            protocol="grpc",
            status="unset",
        )
        for nanoseconds, trace in ((1, "b"), (2, "a"))
    )
    log.add(SpansCollected(time=at(5), rows=rows))
    log.flush(10)
    write_dataset(log.entries, tmp_path / "run_X")
    assert [row["trace_id"] for row in table(tmp_path / "run_X", "spans")] == ["a", "b"]
    assert {violation.rule_id for violation in validate(tmp_path / "run_X")} == {"file-missing"}


def test_metadata_tells_what_came_and_what_is_missing(run: Path) -> None:
    metadata = json.loads((run / "metadata.json").read_text())
    assert (metadata["status"], metadata["done_reason"], metadata["seed"]) == ("completed", "horizon", 7)
    assert metadata["streams"]["metrics"]["coverage"] == 1 - 15 / 120
    assert metadata["content_digest"] == "abc"
    assert metadata["wall_time"] == "2026-02-03T04:05:06Z"
    assert [entry["type"] for entry in metadata["intervention_schedule"]] == ["cpu_pressure"]


@pytest.mark.parametrize("kept", [5, 6, 20, 33])
def test_a_log_that_breaks_off_gives_a_valid_aborted_run(eventful: Entries, tmp_path: Path, kept: int) -> None:
    write_dataset(eventful[:kept], tmp_path / "run_X")
    (tmp_path / "run_X" / "event_log.zst").write_bytes(b"")
    assert json.loads((tmp_path / "run_X" / "metadata.json").read_text())["status"] == "aborted"
    assert validate(tmp_path / "run_X") == []


def test_a_log_without_its_declaration_is_refused(eventful: Entries, tmp_path: Path) -> None:
    with pytest.raises(LogCorrupted, match="RunDeclared"):
        write_dataset(eventful[3:], tmp_path / "run_X")


def test_a_directory_that_names_no_run_needs_its_id(eventful: Entries, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run_id"):
        write_dataset(eventful, tmp_path / "elsewhere")
