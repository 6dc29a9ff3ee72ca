"""A finding is known from the poll that told it to the poll that took it back; what wasn't polled is unknown, not absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from otel_control_gym.engine.events import CollectorGap, Finding, FindingsObserved
from otel_control_gym.projections import fold, observation_arrays
from otel_control_gym.projections.dataset import Target, write_datasets
from otel_control_gym.projections.features import node_features
from otel_control_gym.projections.happenings import happenings
from otel_control_gym.projections.polls import FindingPolls
from otel_control_gym.projections.suspicions import weak_label_rows


def finding(time: int, *, key: str = "alert:1", severity: str = "warning", **changes: Any) -> Finding:
    fields: dict[str, Any] = {"services": ("cart",), "symptom": "cpu", "confidence": 0.5, "text": "busy"}
    return Finding(time=time, key=key, source="alert", severity=severity, **(fields | changes))


def poll(log: Any, seconds: float, *rows: Finding) -> None:
    log.add(FindingsObserved(time=log.moment(seconds), rows=rows))


def column(log: Any, name: str, service: str = "cart") -> list[float]:
    state = fold(log.entries)
    values = node_features(state.telemetry(), state.buckets(10))[name]
    found: list[float] = values[:, [node.id for node in state.graph.nodes].index(service)].tolist()
    return found


@pytest.fixture
def log(scribe: Any, at: Any) -> Any:
    """Polls at 0, 20 and 40 s; an alert that began at 5 s is told at 20 and resolved at 40, an edge is critical from 40 on."""
    log = scribe()
    poll(log, 0)
    poll(log, 20, finding(at(5)))
    edge = finding(at(40), key="edge:1", severity="critical", services=("frontend", "cart"), edges=("frontend->cart",))
    poll(log, 40, finding(at(5), resolved=at(33)), edge)
    log.flush(60)
    return log


def test_a_bucket_shows_what_the_newest_poll_at_its_end_told(log: Any) -> None:
    assert column(log, "findings_open") == [0, 1, 1, 1, 1, 1]
    assert column(log, "finding_severity") == [0, 1, 1, 2, 2, 2]
    assert column(log, "findings_open", "frontend") == [0, 0, 0, 1, 1, 1]
    assert column(log, "findings_open", "cache") == [0] * 6


def test_before_the_first_poll_and_after_a_failed_one_nothing_is_known(scribe: Any, at: Any) -> None:
    log = scribe()
    poll(log, 20, finding(at(20)))
    log.add(CollectorGap(time=at(60), source="findings", start=at(20), end=at(40), reason="no answer"))
    poll(log, 60)
    log.flush(70)
    found = column(log, "findings_open")
    assert np.isnan(found).tolist() == [True, False, False, True, True, False, False]
    assert found[-1] == 1  # silence about a finding isn't its end


def test_a_poll_s_word_stands_for_two_minutes(scribe: Any) -> None:
    log = scribe()
    poll(log, 0)
    log.flush(150)
    assert np.isnan(column(log, "findings_open")).tolist() == [False] * 12 + [True] * 3


def test_events_tell_at_each_poll_what_it_told(log: Any, at: Any) -> None:
    rows = [row for row in happenings(fold(log.entries), at(0), at(60), truth=False) if row.source == "findings"]
    assert [((row.time - at(0)) / 1e9, row.type, row.object) for row in rows] == [
        (20, "opened", "alert/cart"),
        (40, "resolved", "alert/cart"),
        (40, "opened", "alert/frontend,cart,frontend->cart"),
    ]
    assert "until" in rows[1].message


def test_an_observation_has_what_was_told_in_its_window_however_long_ago_it_began(log: Any, at: Any) -> None:
    seen = observation_arrays(fold(log.entries), at(60), window_seconds=30, bucket_seconds=10)
    assert sorted(row.key for row in seen.findings) == ["alert:1", "edge:1"]


def test_a_weak_label_is_where_coroot_says_that_the_finding_was_and_names_its_causes(log: Any, at: Any) -> None:
    state = fold(log.entries)
    rows = [row for row in weak_label_rows(state, state.buckets(10)) if row["service"] == "cart"]
    assert [(row["time"] - at(0)) / 1e9 for row in rows] == [0, 10, 20, 30, 40, 50]
    assert (rows[-1]["findings"], rows[-1]["sources"], rows[-1]["edges"]) == (1, ["alert"], ["frontend->cart"])


def test_polls_that_come_in_another_order_tell_the_same(at: Any) -> None:
    told = {20: (finding(at(5)),), 40: (finding(at(5), confidence=0.9),), 60: (finding(at(5), resolved=at(50)),)}
    forward, backward = FindingPolls(), FindingPolls()
    for polls, order in ((forward, sorted(told)), (backward, sorted(told, reverse=True))):
        for seconds in order:
            polls.take(told[seconds], at(seconds))
    assert [row.change for row in forward.told()] == ["opened", "changed", "resolved"]
    assert forward.told() == backward.told()
    for seconds in range(0, 80, 10):
        assert forward.standing(at(seconds)) == backward.standing(at(seconds))


def test_a_poll_that_comes_too_late_counts_from_the_moment_up_to_which_all_is_settled(scribe: Any, at: Any) -> None:
    log = scribe()
    lag = log.settings.telemetry.lag_seconds
    log.flush(lag + 30)
    poll(log, 10, finding(at(10)))
    log.flush(lag + 50)
    assert np.isnan(column(log, "findings_open")[:5]).tolist() == [True, True, False, False, False]


def test_a_dataset_that_is_written_in_stretches_shows_the_same_polls(scribe: Any, at: Any, tmp_path: Path) -> None:
    log = scribe()
    for seconds in range(0, 420, 30):
        if seconds == 240:
            log.add(CollectorGap(time=at(270), source="findings", start=at(180), end=at(240), reason="no answer"))
        elif seconds % 60 == 0:
            resolved = at(seconds - 5) if seconds > 300 else None
            poll(log, seconds, finding(at(50), confidence=seconds / 1000, resolved=resolved))
        log.flush(seconds + 30)
    for name, stretch in (("run_1WHOLE", 1 << 30), ("run_1STRETCHES", 1)):
        write_datasets(log.entries, [Target(directory=tmp_path / name)], run_id="1", stretch_edges=stretch)
    for file in ("node_features.parquet", "events.parquet", "weak_labels.parquet"):
        assert (tmp_path / "run_1WHOLE" / file).read_bytes() == (tmp_path / "run_1STRETCHES" / file).read_bytes(), file
