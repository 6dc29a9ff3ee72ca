"""What a window says hangs on its own rows alone: live and in the table, however the log was cut, whenever it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import LogRow, LogsCollected, RunDeclared, Span, SpansCollected
from otel_control_gym.projections import fold, initial, observation_arrays, step
from otel_control_gym.projections.metadata import Identity, metadata_document
from otel_control_gym.projections.tables import make_tables
from otel_control_gym.projections.timelines import Timeline
from otel_control_gym.projections.windows import Windows

WINDOW = 60
Seconds: TypeAlias = int
#: (when it ends, how much later it arrives, which one)
ARRIVALS = st.lists(st.tuples(st.integers(0, 179), st.integers(0, 40), st.integers(0, 5)), max_size=25)


def span(at: Any, seconds: int, number: int, place: int) -> Span:
    return Span(
        time=at(seconds),
        duration_ns=number * 1_000_000,
        trace_id=f"{number % 3:032x}",
        span_id=f"{place:016x}",
        parent_span_id=f"{place - 1:016x}" if number else "",
        service=("cart", "frontend")[number % 2],
        peer="",
        operation="GetCart",
        kind="server",
        protocol="grpc",
        status="error" if number == 3 else "unset",
        sampling_probability=0.3,
    )


def line(at: Any, seconds: int, number: int) -> LogRow:
    body = f"user {('ada', 'bob', 'eve')[number % 3]} paid {number}"
    return LogRow(time=at(seconds), service="cart", severity="INFO", body=body, sampling_probability=0.3)


def written(scribe: Any, at: Any, arrivals: Sequence[tuple[int, int, int]], step_seconds: int, **telemetry: Any) -> Any:
    """Return a log of three minutes in which rows arrive at the end of a step, some of them late."""
    log = scribe()
    declared = log.entries[0].event
    assert isinstance(declared, RunDeclared)
    settings = msgspec.structs.replace(
        declared.settings, telemetry=msgspec.structs.replace(declared.settings.telemetry, **telemetry)
    )
    log.entries[0] = msgspec.structs.replace(log.entries[0], event=msgspec.structs.replace(declared, settings=settings))
    for end in range(step_seconds, 240 + step_seconds, step_seconds):
        due = [
            (seconds, number, place)
            for place, (seconds, late, number) in enumerate(arrivals)
            if end - step_seconds <= seconds + late < end
        ]
        if due:
            log.add(SpansCollected(time=at(end), rows=tuple(span(at, *arrival) for arrival in due)))
            log.add(LogsCollected(time=at(end), rows=tuple(line(at, *arrival[:2]) for arrival in due)))
        log.flush(end)
    return log.entries


def rows_of(entries: Any, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = make_tables(fold(entries), "R", 10)[f"{name}.parquet"].to_pylist()
    return found


@given(ARRIVALS)
def test_the_cutting_of_the_log_changes_no_row(scribe: Any, at: Any, arrivals: list[tuple[int, int, int]]) -> None:
    fine, coarse = (written(scribe, at, arrivals, seconds, traces="both") for seconds in (10, 120))
    for name in ("trace_summaries", "log_patterns"):
        assert rows_of(fine, name) == rows_of(coarse, name)


@given(ARRIVALS)
def test_a_window_that_is_over_is_seen_live_as_the_table_has_it(
    scribe: Any, at: Any, arrivals: list[tuple[int, int, int]]
) -> None:
    """Over: its end, and the time by which rows may be late, have passed."""
    entries, late = written(scribe, at, arrivals, 30, traces="both"), 40
    tables = {name: rows_of(entries, name) for name in ("trace_summaries", "log_patterns")}
    state = initial()
    for entry in entries:
        step(state, entry)
        if type(entry.event).__name__ != "ClockAdvanced":
            continue
        now = entry.event.time
        seen = observation_arrays(state, now, window_seconds=90, bucket_seconds=10)
        for name, live in (("trace_summaries", seen.traces), ("log_patterns", seen.log_patterns)):
            over = [
                msgspec.to_builtins(row) | {"time": row.time}
                for row in live
                if row.time + (WINDOW + late) * SECOND <= now
            ]
            overlapping = [
                {key: value for key, value in row.items() if key != "run_id"} | {"time": _nanoseconds(row["time"])}
                for row in tables[name]
                if now - 90 * SECOND < _nanoseconds(row["time"]) + WINDOW * SECOND
                and _nanoseconds(row["time"]) + (WINDOW + late) * SECOND <= now
            ]
            order = sorted(over, key=_place)
            assert order == sorted(overlapping, key=_place)


def _nanoseconds(moment: Any) -> int:
    seconds: int = round(moment.timestamp())
    return seconds * SECOND


def _place(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in sorted(row))


def test_raw_traces_have_no_summaries_and_aggregated_ones_no_spans(scribe: Any, at: Any) -> None:
    arrivals = [(5, 0, 1), (70, 0, 2)]
    expected = {"raw": (2, 0), "aggregated": (0, 2), "both": (2, 2)}
    for traces, counts in expected.items():
        entries = written(scribe, at, arrivals, 30, traces=traces)
        assert (len(rows_of(entries, "spans")), len(rows_of(entries, "trace_summaries"))) == counts
        told = metadata_document(fold(entries), Identity(run_id="R"))["streams"]["spans"]
        filled = zip(("spans", "trace_summaries"), counts, strict=True)
        assert told["tables"] == [name for name, count in filled if count]
        assert told["rows"] == 2


def test_a_stretch_is_summed_up_once_while_nothing_new_lies_in_it() -> None:
    calls: list[tuple[int, int]] = []

    def sum_up(start: int, rows: Sequence[LogRow]) -> tuple[int, ...]:
        calls.append((start, len(rows)))
        return (len(rows),)

    timeline: Timeline[LogRow] = Timeline(lambda row: (row.body,))
    windows = Windows(timeline, sum_up)
    timeline.extend(LogRow(time=time, service="", severity="", body="") for time in (1, 12, 13))
    assert list(windows.between(5, 20, 0, 10)) == [1, 2]
    assert list(windows.between(5, 20, 0, 10)) == [1, 2]
    assert calls == [(0, 1), (10, 2)]
    timeline.extend([LogRow(time=3, service="", severity="", body="late")])
    assert list(windows.between(5, 20, 0, 10)) == [2, 2]
    assert calls[2:] == [(0, 2)]


def test_an_open_window_is_cut_where_it_is_asked_for() -> None:
    timeline: Timeline[LogRow] = Timeline(lambda row: (row.body,))
    windows: Windows[LogRow, int] = Windows(timeline, lambda _, rows: (len(rows),))
    timeline.extend(LogRow(time=time, service="", severity="", body="") for time in (11, 15, 19))
    assert list(windows.between(10, 16, 0, 10)) == [2]
    assert list(windows.between(10, 16, 0, 10, cut=False)) == [3]
    assert list(windows.between(10, 12, 0, 10)) == [1]
