"""A dataset is a function of what was logged: not of how it was cut, repeated or delayed, nor of the stretches in which it was folded."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.events import (
    BulkEvent,
    KubernetesEvent,
    KubernetesEventsObserved,
    LogRow,
    LogsCollected,
    Recorded,
    SamplesCollected,
    Span,
    SpansCollected,
)
from otel_control_gym.engine.settings import Granularity
from otel_control_gym.projections import Target, fold, observation_arrays, write_datasets
from otel_control_gym.projections.features import node_features
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.happenings import happenings
from otel_control_gym.projections.schemas import FILES

HORIZON = 300
STEP = 30
WHOLE = 10**9  #: stretches longer than any run
CALLS = "traces_span_metrics_calls_total"
MEMORY = "k8s_pod_memory_working_set_bytes"
Entries = list[Recorded]
Delays = Callable[[], int]


def labels_of(metric: str, service: str, pod: str) -> dict[str, str]:
    if metric == MEMORY:
        return {"k8s_deployment_name": service, "k8s_pod_name": pod}
    return {
        "service_name": service,
        "k8s_pod_name": pod,
        "span_kind": "SPAN_KIND_SERVER",
        "status_code": "STATUS_CODE_UNSET",
    }


Scrape = tuple[int, str, dict[str, str], float]


@st.composite
def scrapes(draw: st.DrawFn) -> list[Scrape]:
    """Counters and gauges of pods that are born, restart and vanish; some scrapes are missed, some fall between two edges."""
    last = HORIZON // 5
    missed = draw(st.sets(st.integers(0, last), max_size=8))
    found: list[Scrape] = []
    for number in range(draw(st.integers(1, 4))):
        metric = draw(st.sampled_from([CALLS, CALLS, MEMORY]))
        labels = labels_of(metric, draw(st.sampled_from(["frontend", "cart"])), f"pod-{number}")
        born, gone = sorted(draw(st.tuples(st.integers(0, last), st.integers(0, last))))
        skew = draw(st.sampled_from([0, 0, 2]))
        steps = draw(st.lists(st.integers(-3, 40), min_size=gone - born + 1, max_size=gone - born + 1))
        value = 0
        for scrape, step in zip(range(born, gone + 1), steps, strict=True):
            value = value + step if step >= 0 else -step  # a restart
            if scrape not in missed:
                found.append((max(0, scrape * 5 - skew), metric, labels, value * 0.1))
    return found


def log_of(scribe: Any, found: Sequence[Scrape], *, lag: int = 60, delay: Delays = lambda: 0) -> Entries:
    """Write a log in steps of 30 s; each scrape and each row comes with the first flush after its time and its delay."""
    log = scribe(lag_seconds=lag)
    samples = [(min(HORIZON, scrape[0] + delay()), scrape) for scrape in found]
    rows = [(min(HORIZON, seconds + delay()), number, seconds) for number, seconds in enumerate(range(1, HORIZON, 7))]
    for flush in range(STEP, HORIZON + 1, STEP):
        for arrival, (seconds, metric, labels, value) in samples:
            if flush - STEP < arrival <= flush or (flush == STEP and arrival == 0):
                log.sample(seconds, value, metric, **labels)
        come = [(number, seconds) for arrival, number, seconds in rows if flush - STEP < arrival <= flush]
        for event in telemetry(log, flush, come):
            log.add(event)
        log.flush(flush)
    return list(log.entries)


def telemetry(log: Any, flush: int, come: Iterable[tuple[int, int]]) -> Iterable[BulkEvent]:
    """Yield spans, log records and Kubernetes events, a third of the rows each."""
    now, come = log.moment(flush), list(come)
    yield SpansCollected(
        time=now,
        rows=tuple(
            Span(
                time=log.moment(seconds),
                duration_ns=10**6 * number,
                trace_id=f"{number:032x}",
                span_id=f"{number:016x}",
                parent_span_id="",
                service="cart",
                peer="",
                operation="GetCart",
                kind="server",
                protocol="grpc",
                status="error" if number % 2 else "ok",
            )
            for number, seconds in come
            if number % 3 == 0
        ),
    )
    yield LogsCollected(
        time=now,
        rows=tuple(
            LogRow(time=log.moment(seconds), service="cart", severity="ERROR", body=f"record {number}")
            for number, seconds in come
            if number % 3 == 1
        ),
    )
    yield KubernetesEventsObserved(
        time=now,
        rows=tuple(
            KubernetesEvent(
                time=log.moment(seconds),
                type="Normal",
                reason="Pulled",
                message=str(number),
                object_kind="Pod",
                object_name="cart-1",
                object_uid="pod",
                component="kubelet",
                count=1,
            )
            for number, seconds in come
            if number % 3 == 2
        ),
    )


def dataset(entries: Entries, *, stretch: int = WHOLE, granularity: Granularity | None = None) -> dict[str, bytes]:
    """Return the files of the dataset of a log."""
    with tempfile.TemporaryDirectory() as folder:
        target = Target(directory=Path(folder) / "run_01TEST", granularity=granularity)
        write_datasets(entries, [target], stretch_edges=stretch)
        return {name: (target.directory / name).read_bytes() for name in FILES}


def rows_of(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files without the one that says how many messages the log has."""
    return {name: content for name, content in files.items() if name != "metadata.json"}


property_of_files = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@property_of_files
@given(scrapes(), st.integers(1, 30), st.sampled_from([0, 10, 60]))
def test_the_files_do_not_depend_on_the_stretches_in_which_a_log_is_folded(
    scribe: Any, found: list[Scrape], stretch: int, lag: int
) -> None:
    entries = log_of(scribe, found, lag=lag)
    assert dataset(entries, stretch=stretch) == dataset(entries)


@property_of_files
@given(scrapes(), st.integers(1, 30), st.sampled_from([10, 60, 200]), st.randoms(use_true_random=False))
def test_what_comes_late_by_up_to_the_lag_lands_in_its_bucket(
    scribe: Any, found: list[Scrape], stretch: int, lag: int, chance: Any
) -> None:
    late = log_of(scribe, found, lag=lag, delay=lambda: chance.randint(0, lag))
    assert rows_of(dataset(late, stretch=stretch)) == rows_of(dataset(log_of(scribe, found, lag=lag)))


@property_of_files
@given(scrapes(), st.data())
def test_the_rows_do_not_depend_on_how_events_were_cut_nor_on_what_a_broker_delivers_twice(
    scribe: Any, found: list[Scrape], data: st.DataObject
) -> None:
    entries = log_of(scribe, found)
    pieces = list(renumbered(piece for entry in entries for piece in cut(entry, data)))
    repeated = [entry for position, piece in enumerate(pieces) for entry in again(pieces[: position + 1], piece, data)]
    assert rows_of(dataset(repeated, stretch=7)) == rows_of(dataset(entries))


def cut(entry: Recorded, data: st.DataObject) -> Iterable[Recorded]:
    """Yield a bulk event in two complete events, split anywhere."""
    event = entry.event
    if isinstance(event, SamplesCollected):
        at = data.draw(st.integers(0, event.series.size))
        for part in (slice(0, at), slice(at, None)):
            columns = {name: getattr(event, name)[part] for name in ("series", "times", "values")}
            yield msgspec.structs.replace(entry, event=SamplesCollected(time=event.time, **columns))
    elif isinstance(event, BulkEvent):
        rows = event.rows  # type: ignore[attr-defined]
        at = data.draw(st.integers(0, len(rows)))
        for part in (slice(0, at), slice(at, None)):
            yield msgspec.structs.replace(entry, event=msgspec.structs.replace(event, rows=rows[part]))
    else:
        yield entry


def renumbered(entries: Iterable[Recorded]) -> Iterable[Recorded]:
    """Yield entries with the sequence that a stream would give them."""
    ends = {False: 0, True: 0}
    for entry in entries:
        ends[entry.truth] += 1
        yield msgspec.structs.replace(entry, seq=ends[entry.truth])


def again(before: Sequence[Recorded], piece: Recorded, data: st.DataObject) -> Iterable[Recorded]:
    """Yield a piece, and sometimes one that was delivered already."""
    yield piece
    if data.draw(st.integers(0, 4)) == 0:
        yield data.draw(st.sampled_from(before))


@settings(property_of_files, max_examples=8)
@given(scrapes())
def test_datasets_that_are_made_in_one_pass_are_those_that_are_made_alone(scribe: Any, found: list[Scrape]) -> None:
    entries = log_of(scribe, found, lag=10)
    granularities = [
        Granularity(observation_bucket_seconds=width, reward_bucket_seconds=width) for width in (5, 30, 60)
    ]
    with tempfile.TemporaryDirectory() as folder:
        targets = [
            Target(directory=Path(folder) / str(number) / "run_01TEST", granularity=granularity)
            for number, granularity in enumerate(granularities)
        ]
        write_datasets(entries, targets, stretch_edges=4)
        together = [{name: (target.directory / name).read_bytes() for name in FILES} for target in targets]
    assert together == [dataset(entries, granularity=granularity) for granularity in granularities]
    assert len({files["node_features.parquet"] for files in together}) == 3


@property_of_files
@given(scrapes(), st.integers(1, 30))
def test_a_table_that_was_made_in_stretches_is_what_was_observed_live(
    scribe: Any, found: list[Scrape], stretch: int
) -> None:
    entries = log_of(scribe, found, lag=10)
    state = fold(entries)
    with tempfile.TemporaryDirectory() as folder:
        target = Target(directory=Path(folder) / "run_01TEST")
        write_datasets(entries, [target], stretch_edges=stretch)
        table = pq.read_table(target.directory / "node_features.parquet")
    seen = observation_arrays(state, state.known_until, window_seconds=HORIZON, bucket_seconds=10)
    order = np.argsort(seen.node_names)
    for position, name in enumerate(seen.node_features):
        column = np.array(table.column(name).to_pylist(), np.float64)
        assert np.array_equal(column, seen.nodes[:, order, position].ravel(), equal_nan=True), name


# --- examples ---------------------------------------------------------------------------------------------------------------


def counts(state: RunState) -> list[float]:
    """Return the requests of the frontend per bucket of 10 s."""
    column: list[float] = node_features(state.telemetry(), state.buckets(10))["request_count"][:, 0].tolist()
    return column


def late_sample(scribe: Any, *, seconds: int, value: float) -> RunState:
    """A counter that restarts at 40 s: a sample of it comes with the flush at 60 s, with a lag of 30 s."""
    log = scribe(lag_seconds=30)
    for flush, samples in (
        (30, {0: 0, 10: 100, 20: 200, 30: 300}),
        (60, {40: 5, 50: 10, 60: 15}),
        (90, {seconds: value}),
    ):
        for moment, count in samples.items():
            log.calls(moment, count)
        log.flush(flush)
    return fold(log.entries)


def test_a_late_sample_before_a_restart_moves_growth_and_invents_none(scribe: Any) -> None:
    without = counts(late_sample(scribe, seconds=90, value=15))
    assert without[:6] == [100, 100, 100, 5, 5, 5]
    assert counts(late_sample(scribe, seconds=37, value=370))[:6] == [100, 100, 100, 75, 5, 5]


def test_a_sample_that_comes_too_late_is_left_out_counted_and_shown(scribe: Any, at: Any) -> None:
    state = late_sample(scribe, seconds=25, value=250)
    assert counts(state)[:6] == counts(late_sample(scribe, seconds=90, value=15))[:6]
    assert [(late.source, late.count, late.start, late.time) for late in state.lateness.left_out] == [
        ("metrics", 1, at(25), at(90))
    ]
    shown = [row for row in happenings(state, at(0), at(100), truth=False) if row.type == "late"]
    assert [(row.reason, row.count, row.message) for row in shown] == [("metrics", 1, "of 65 to 65 s before: left out")]


def test_rows_that_come_too_late_are_counted_in_the_metadata(scribe: Any) -> None:
    log = scribe(lag_seconds=20)
    log.flush(30)
    for event in telemetry(log, 60, [(3, 5), (6, 50), (4, 9), (5, 8)]):
        log.add(event)
    log.flush(60)
    streams = json.loads(dataset(log.entries)["metadata.json"])["streams"]
    assert (streams["spans"]["rows"], streams["spans"]["late"]) == (1, 1)
    assert (streams["logs"]["rows"], streams["logs"]["late"]) == (0, 1)
    assert streams["kubernetes"]["late"] == 1


def test_memory_follows_what_is_kept_and_not_the_length_of_the_run(scribe: Any) -> None:
    def edges_kept(seconds: int) -> int:
        log = scribe(lag_seconds=10)
        for moment in range(0, seconds + 1, 5):
            log.calls(moment, moment)
            if moment % 30 == 0 and moment:
                log.flush(moment)
        state = fold([])
        most = 0
        for entry in log.entries:
            state.take(entry)
            if state.declared is not None:
                state.samples.release(state.samples.edges - 10)
                most = max(most, len(state.samples.values))
        return most

    assert edges_kept(6000) == edges_kept(3000) < 300


def test_an_edge_that_was_let_go_cannot_be_read(scribe: Any) -> None:
    log = scribe(lag_seconds=10)
    for moment in range(0, 3001, 5):
        log.calls(moment, moment)
        if moment in (1500, 3000):
            log.flush(moment)
    state = fold(log.entries)
    state.samples.release(500)
    with pytest.raises(AssertionError, match="let go"):
        counts(state)


def test_examples_are_not_all_empty(scribe: Any) -> None:
    state = fold(log_of(scribe, [(5 * n, CALLS, labels_of(CALLS, "cart", "a"), 3.0 * n) for n in range(40)]))
    assert state.samples.count == 40
    assert len(state.spans.all()) == 15
