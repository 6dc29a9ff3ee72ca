"""A leak is found in whatever channel it is planted; where there is none, none is found more often than chance allows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import yaml

import otel_control_gym as ocg
from otel_control_gym.engine.campaigns.files import load_plan
from otel_control_gym.engine.campaigns.keyed_draws import Draws
from otel_control_gym.engine.campaigns.leak_channels import BY_NATURE, CHANNELS, giveaways_in, signs_of
from otel_control_gym.engine.campaigns.leak_reports import LeakReport, markdown_of
from otel_control_gym.engine.campaigns.leak_statistics import auc_of, foretold, permutations
from otel_control_gym.engine.campaigns.leaks import Seen, judge_before_onset, judge_zero_strength
from otel_control_gym.engine.campaigns.plans import PlannedRun
from otel_control_gym.engine.campaigns.public_views import (
    CROCKFORD,
    TABLES,
    PublicView,
    Span,
    begun_ms,
    public_view,
)
from otel_control_gym.engine.run_tables import table_schema
from otel_control_gym.projections.tables import arrow_schema

START = datetime(2026, 1, 5, tzinfo=UTC)
PAIRS = 40
Plant = Callable[[PublicView], PublicView]


def table(name: str, *rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=arrow_schema(table_schema(name)))


@cache
def clean_view(family: str, role: str) -> PublicView:
    """Return what might be public of a run: measurements of its family's seed, an id and times of its own."""
    noise, own = Draws(7, family), Draws(7, f"{family}/{role}")
    pod = f"cart-{noise.choice('suffix', 'bcdfgh')}{noise.choice('more', 'bcdfgh')}{family[:5]}"
    moments = [START + timedelta(seconds=10 * number) for number in range(3)]
    tables = {name: table(name) for name in TABLES}
    tables["node_features"] = table(
        "node_features",
        *(
            {"time": time, "service": service, "request_rate": 10 * noise.share(f"{service} {time}")}
            for time in moments
            for service in ("cart", "checkout")
        ),
    )
    event = {"source": "pods", "type": "added", "reason": "", "object": f"Pod/{pod}", "visibility": "public"}
    tables["events"] = table("events", *({"time": time, **event} for time in moments))
    span = {"service": "cart", "peer": "", "operation": "Get", "status": "ok", "attributes": '{"rpc.method": "Get"}'}
    tables["spans"] = table("spans", *({"time": time, "span_id": str(time), **span} for time in moments))
    body = f"order {noise.share('order')} placed"
    return PublicView(
        run_id="01M8A6AS71" + "".join(own.choice(f"letter {place}", CROCKFORD) for place in range(16)),
        metadata={
            "wall_time": "2026-11-25T20:28:39Z",
            "policy_name": "noop",
            "streams": {"logs": {"rows": int(100 * noise.share("rows"))}},
        },
        tables=tables,
        order={name: table_schema(name).order for name in TABLES},
        logs=[{"service": "cart", "severity": "INFO", "body": body, "attributes": {"k8s.pod.name": pod}}],
        kubernetes_events=[
            {
                "component": "kubelet",
                "reason": "Started",
                "object_kind": "Pod",
                "object_name": pod,
                "message": "Started",
            }
        ],
        findings=[],
        graph={"nodes": [{"id": "cart"}], "edges": []},
        messages=[(number, "telemetry.samples.1") for number in range(1, 20)],
        sizes={"node_features.parquet": 40_000 + int(900 * noise.share("size")), "labels.parquet": 9000},
        elapsed_seconds=1 + own.share("elapsed"),
        digest=family,
    )


@cache
def clean_pairs() -> tuple[Seen, ...]:
    return tuple(look(run, clean_view(run.family_id, run.role)) for run in load_plan("leaks", only=PAIRS).runs)


def look(planned: PlannedRun, view: PublicView) -> Seen:
    return Seen(planned=planned, signs=signs_of(view), giveaways=giveaways_in(view), digest=view.digest)


def judged(plant: Plant | None = None, share: float = 1.0) -> LeakReport:
    """Return the report on pairs, in a share of whose zero-strength runs a leak was planted."""
    seen = list(clean_pairs())
    if plant is not None:
        mains = [number for number, run in enumerate(seen) if run.planned.role == "main"]
        for number in mains[: round(share * PAIRS)]:
            planned = seen[number].planned
            seen[number] = look(planned, plant(clean_view(planned.family_id, planned.role)))
    return judge_zero_strength("test", seen)


def leaking(report: LeakReport) -> set[str]:
    return {channel.channel for channel in report.channels if channel.verdict == "leaks"}


def changed(view: PublicView, **fields: Any) -> PublicView:
    return msgspec.structs.replace(view, **fields)


def with_rows(
    view: PublicView, name: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> PublicView:
    return changed(view, tables=view.tables | {name: table(name, *change(view.tables[name].to_pylist()))})


# --- zero strength --------------------------------------------------------------------------------------------------------


def test_pairs_that_differ_in_their_ids_alone_are_told_apart_by_no_channel() -> None:
    report = judged()
    assert leaking(report) == set()
    assert report.giveaways == {}
    assert (report.identical_public_logs, report.different_public_logs) == (PAIRS, ())
    verdicts = {channel.channel: channel.verdict for channel in report.channels}
    assert verdicts["features"] == verdicts["events"] == verdicts["file_sizes"] == "at chance"


def dearer(view: PublicView) -> PublicView:
    return with_rows(
        view, "node_features", lambda rows: [row | {"request_rate": row["request_rate"] + 5} for row in rows]
    )


def another_event(view: PublicView) -> PublicView:
    return with_rows(view, "events", lambda rows: [*rows, rows[-1] | {"type": "modified", "reason": "Unhealthy"}])


def a_log_line(view: PublicView) -> PublicView:
    return changed(view, logs=[*view.logs, view.logs[0] | {"body": "Feature Flag adFailure enabled"}])


def a_span_attribute(view: PublicView) -> PublicView:
    attributes = '{"feature_flag.key": "adFailure", "rpc.method": "Get"}'
    return with_rows(view, "spans", lambda rows: [rows[0] | {"attributes": attributes}, *rows[1:]])


def a_chaos_object(view: PublicView) -> PublicView:
    event = {"component": "stresschaos", "reason": "Applied", "object_kind": "StressChaos", "object_name": "x7d"}
    return changed(view, kubernetes_events=[*view.kubernetes_events, event])


def a_telling_name(view: PublicView) -> PublicView:
    return with_rows(view, "events", lambda rows: [row | {"object": "Pod/cart-burn-0"} for row in rows])


def an_annotation(view: PublicView) -> PublicView:
    return changed(
        view, graph={"nodes": [{"id": "cart", "annotations": {"cart-normal-image": "cart:2.2"}}], "edges": []}
    )


def rows_in_another_order(view: PublicView) -> PublicView:
    return with_rows(view, "node_features", lambda rows: rows[::-1])


def a_gap_in_the_log(view: PublicView) -> PublicView:
    return changed(view, messages=[(number + (number > 9), tag) for number, tag in view.messages])


def played_slowly(view: PublicView) -> PublicView:
    return changed(view, elapsed_seconds=(view.elapsed_seconds or 0) + 1)


def played_first(view: PublicView) -> PublicView:
    return changed(view, run_id="01M8A6AS70" + view.run_id[10:])


def a_count_in_the_metadata(view: PublicView) -> PublicView:
    return changed(view, metadata=view.metadata | {"streams": {"logs": {"rows": 201}}})


def a_larger_file(view: PublicView) -> PublicView:
    return changed(view, sizes=view.sizes | {"node_features.parquet": 41_000})


@pytest.mark.parametrize(
    ("plant", "channel"),
    [
        (dearer, "features"),
        (another_event, "events"),
        (a_log_line, "log_templates"),
        (a_span_attribute, "spans"),
        (a_chaos_object, "events"),
        (a_telling_name, "object_names"),
        (rows_in_another_order, "row_order"),
        (a_gap_in_the_log, "row_order"),
        (played_slowly, "run_ids_and_times"),
        (played_first, "run_ids_and_times"),
        (a_count_in_the_metadata, "metadata"),
        (a_larger_file, "file_sizes"),
    ],
)
def test_a_planted_leak_is_found_in_its_channel_and_in_all_together(plant: Plant, channel: str) -> None:
    report = judged(plant)
    assert leaking(report) >= {channel, "together"}
    assert not report.holds
    assert f"| {channel} |" in markdown_of(report)


def test_a_leak_in_a_third_of_the_runs_is_found_too() -> None:
    assert "spans" in leaking(judged(a_span_attribute, share=1 / 3))


@pytest.mark.parametrize(
    ("plant", "word"),
    [
        (a_log_line, "feature flag"),
        (a_span_attribute, "feature_flag"),
        (a_chaos_object, "stresschaos"),
        (an_annotation, "normal-image"),
    ],
)
def test_what_the_stand_itself_gives_away_fails_a_single_run(plant: Plant, word: str) -> None:
    view = clean_view("f", "main")
    assert giveaways_in(view) == []
    assert giveaways_in(plant(view)) == [word]


def test_files_that_hold_truth_tell_by_their_nature_and_are_not_judged() -> None:
    report = judged(lambda view: changed(view, sizes=view.sizes | {"labels.parquet": 12_000}))
    verdicts = {channel.channel: channel.verdict for channel in report.channels}
    assert verdicts["files_with_truth"] == "by nature"
    assert leaking(report) == set()


def test_a_pair_whose_public_logs_differ_is_named() -> None:
    report = judged(lambda view: changed(view, digest="other"), share=0.1)
    assert report.identical_public_logs == PAIRS - len(report.different_public_logs) < PAIRS
    assert all(key.startswith("zero_strength-") for key in report.different_public_logs)


def test_a_campaign_without_pairs_is_refused() -> None:
    with pytest.raises(ocg.UsageError, match="has 0 pairs of strength zero and untouched"):
        judge_zero_strength("test", [])


# --- statistics -----------------------------------------------------------------------------------------------------------


def noise(key: str, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    draws = Draws(3, key)
    return np.array([draws.share(str(number)) for number in range(count)])


def test_the_bound_covers_the_truth_at_its_nominal_rate_for_lone_and_for_paired_scores() -> None:
    kinds = np.tile([True, False], 40)
    families = [str(number // 2) for number in range(80)]
    for shared in (0.0, 3.0):  # how much of a score is its family's
        below = 0
        for trial in range(200):
            scores = noise(f"{trial}/own", 80) + shared * np.repeat(noise(f"{trial}/family", 40), 2)
            below += auc_of(scores, kinds, families).upper < 0.5
        assert below <= 20  # 5 % of 200, and three standard deviations


def test_a_bound_is_wide_where_few_were_seen_even_if_all_look_alike() -> None:
    kinds = np.tile([True, False], 10)
    found = auc_of(np.zeros(20), kinds, [str(number // 2) for number in range(20)])
    assert found.auc == 0.5
    assert found.upper == pytest.approx((1 + (1 - 0.05**0.1)) / 2)


def test_noise_foretells_nothing_at_its_nominal_rate_and_one_telling_column_among_many_does() -> None:
    families = [str(number) for number in range(48)]
    labels = [("a", "b", "c")[number % 3] for number in range(48)]
    groups = [("x", "y")[number // 24] for number in range(48)]
    alarms = 0
    for trial in range(40):
        tables = {name: noise(f"{trial}/{name}", 48 * 30).reshape(48, 30) for name in ("first", "second")}
        found = foretold(tables, labels, families, permutations(groups, 99, trial))
        alarms += min(channel.p for channel in found.values()) <= 0.05
    assert alarms <= 6  # 5 % of 40, and three standard deviations
    planted = noise("planted", 48 * 300).reshape(48, 300)
    planted[:, 17] += [("a", "b", "c").index(label) for label in labels]
    found = foretold(
        {"planted": planted, "clean": noise("clean", 480).reshape(48, 10)},
        labels,
        families,
        permutations(groups, 99, 1),
    )
    assert found["planted"].p <= 0.05 < found["clean"].p


def test_what_differs_between_applications_alone_foretells_nothing() -> None:
    """The targets of one application aren't those of another, and everybody may know the application."""
    families = [str(number) for number in range(60)]
    groups = [("x", "y")[number % 2] for number in range(60)]
    targets = [f"{group}{number % 3}" for number, group in enumerate(groups)]
    application = np.array([[float(group == "x")] for group in groups]) + 0.01 * noise("a", 60)[:, None]
    found = foretold({"features": application}, targets, families, permutations(groups, 199, 5))["features"]
    assert found.p > 0.05


# --- before the onset -----------------------------------------------------------------------------------------------------


def before_onset(plant: Callable[[PlannedRun, PublicView], PublicView]) -> LeakReport:
    seen = []
    for planned in load_plan("mvp", only=8).runs:
        if planned.role == "main":
            view = changed(clean_view(planned.family_id, "main"), sizes={}, elapsed_seconds=None)
            seen.append(look(planned, plant(planned, view)))
    return judge_before_onset("test", seen, seed=1, seconds=120.0)


def test_what_was_clean_before_the_onset_foretells_nothing() -> None:
    report = before_onset(lambda _planned, view: view)
    assert leaking(report) == set()
    assert {channel.label for channel in report.channels} == {"stratum", "fault_type", "fault_target"}
    assert report.holds


def test_a_stratum_that_the_metadata_gives_away_is_found() -> None:
    report = before_onset(
        lambda planned, view: changed(view, metadata=view.metadata | {"pair_id": "p" if planned.pair_id else None})
    )
    assert {"metadata"} <= leaking(report)
    assert {channel.label for channel in report.channels if channel.verdict == "leaks"} == {"stratum"}


def test_a_policy_that_says_who_it_is_is_shown_and_not_judged() -> None:
    report = before_onset(
        lambda planned, view: changed(view, metadata=view.metadata | {"policy_name": planned.scenario.policy.name})
    )
    told = {channel.label: channel.verdict for channel in report.channels if channel.channel == "policy"}
    assert told["stratum"] == "by nature"
    assert "policy" in BY_NATURE
    assert leaking(report) == set()


# --- real runs ------------------------------------------------------------------------------------------------------------


def test_a_run_id_begins_with_its_moment() -> None:
    moment = datetime(2026, 11, 25, 20, 28, 39, 9000, UTC)
    assert begun_ms("01M8A6AS71ZR6YHXPK00D40FRG") == moment.timestamp() * 1000
    assert begun_ms("of another kind") == 0


SMALL = {
    "name": "small",
    "configurations": ["small-core"],
    "workloads": ["steady"],
    "strata": {"zero_strength": 2, "single_fault": 2},
    "actions": ["scale"],
    "interventions": ["network_delay", "pod_kill"],
    "length": {"short_seconds": 120, "long_seconds": [120, 120], "long_share": 0.0},
    "bounds": None,
}


def leaks(data_dir: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [
        sys.executable,
        "-c",
        "from otel_control_gym.engine.command_line import main; main()",
        "campaign",
        "leaks",
    ]
    ended = subprocess.run(
        [*command, *arguments, "--json", "--workers", "2", "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stderr
    return ended.returncode, json.loads(ended.stdout)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_strength_zero_leaves_the_public_log_as_it_is_and_nothing_after_the_onset_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(SMALL))
    data_dir = tmp_path / "data"
    code, report = leaks(data_dir, str(file))
    assert (report["test"], report["families"], report["runs"]) == ("zero_strength", 2, 4)
    assert (report["identical_public_logs"], report["different_public_logs"], report["giveaways"]) == (2, [], {})
    assert {channel["channel"] for channel in report["channels"]} == {*CHANNELS, "together"}
    assert (code, report["holds"]) == (1, False)  # two pairs show nothing
    assert "too few runs" in (data_dir / "campaign=small" / "leaks-zero-strength.md").read_text()

    _, report = leaks(data_dir, "--before-onset", "small")
    assert (report["test"], report["runs"], report["seconds"]) == ("before_onset", 4, 90.0)
    assert "file_sizes" not in {channel["channel"] for channel in report["channels"]}
    assert (data_dir / "campaign=small" / "leaks-before-onset.json").is_file()

    for run in ocg.find_runs(data_dir):
        span = Span(0.0, 90.0)
        onset = datetime.fromisoformat(run.run_start) + timedelta(seconds=span.end)
        seen = public_view(run.path, span)
        assert seen.tables["node_features"]["time"].to_pylist()[-1] == onset - timedelta(seconds=10)
        assert all(time < onset for found in seen.tables.values() for time in found["time"].to_pylist())
        assert all(datetime.fromisoformat(record["time"]) < onset for record in (*seen.logs, *seen.kubernetes_events))
        assert not {"done_reason", "intervention_schedule", "stratum", "hashes"} & set(seen.metadata)
        labels = ocg.open_run(run.path, truth=True).table("labels").to_arrow().to_pylist()
        assert all(label["start"] >= onset for label in labels if label["is_fault"])
