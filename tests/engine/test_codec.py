"""Every event type survives encoding, bodies are reproducible, and what can't be carried is refused when written."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.codec import BODY_LIMIT, content_type, decode, encode, row_count, split
from otel_control_gym.engine.errors import LogCorrupted, LogError
from otel_control_gym.engine.events import (
    EVENT_TYPES,
    ActionPostchecked,
    BulkEvent,
    CleanSamples,
    Event,
    LogRow,
    LogsCollected,
    RunAborted,
    RunDeclared,
    SamplesCollected,
    Span,
    SpansCollected,
    type_tag,
)

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Return values of a field's type; evidence and parameters are any JSON."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return JSON_VALUES
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return records(hint)
    if hint is int:
        return st.integers(-(2**53), 2**53)
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(strategy(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(strategy(argument) for argument in arguments))
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), strategy(arguments[1]), max_size=3)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is not None:
        return st.one_of(*(strategy(argument) for argument in arguments))
    return st.from_type(hint)


def records(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: strategy(hints[name]) for name in kind.__struct_fields__})


def samples(rows: int) -> SamplesCollected:
    return SamplesCollected(
        time=9,
        series=np.repeat(np.arange(-(-rows // 6), dtype=np.int32), 6)[:rows],
        times=np.arange(rows, dtype=np.int64),
        values=np.sqrt(np.arange(rows, dtype=np.float64)),
    )


ROUND_TRIPPED = [kind for kind in EVENT_TYPES if kind not in (SamplesCollected, CleanSamples, RunDeclared)]


@pytest.mark.parametrize("kind", ROUND_TRIPPED, ids=type_tag)
def test_an_event_comes_back_equal_and_its_bytes_are_reproducible(kind: type[Event]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(records(kind))
    def check(event: Event) -> None:
        body = encode(event)
        again = decode(type_tag(event), body)
        assert again == event
        assert encode(again) == body

    check()


def test_samples_come_back_bit_for_bit() -> None:
    event = samples(100)
    again = decode(type_tag(event), encode(event))
    assert isinstance(again, SamplesCollected)
    assert again.time == 9
    for column in ("series", "times", "values"):
        assert getattr(again, column).tobytes() == getattr(event, column).tobytes()


def test_the_order_of_a_dictionary_does_not_enter_the_bytes() -> None:
    def checked(evidence: dict[str, Any]) -> bytes:
        return encode(
            ActionPostchecked(time=1, action_id="a", verdict="effective", effective_time=2, evidence=evidence)
        )

    assert checked({"a": {"x": 1, "y": 2}, "b": 3}) == checked({"b": 3, "a": {"y": 2, "x": 1}})


def test_the_order_of_a_row_s_dictionary_does_not_enter_the_bytes() -> None:
    def logged(attributes: dict[str, str]) -> bytes:
        row = LogRow(time=2, service="cart", severity="INFO", body="hi", attributes=attributes)
        return encode(LogsCollected(time=1, rows=(row,)))

    assert logged({"a": "1", "b": "2"}) == logged({"b": "2", "a": "1"})


def test_control_events_can_be_read_by_people() -> None:
    assert encode(RunAborted(time=5, reason="why")) == b'{"type":"run.aborted.1","time":5,"reason":"why"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_no_word_for_are_refused_with_their_place(value: float) -> None:
    event = ActionPostchecked(
        time=1, action_id="a", verdict="effective", effective_time=None, evidence={"seen": [{"share": value}]}
    )
    with pytest.raises(
        LogError, match=r"action\.postchecked\.1: can't be written: .* at `\$\.evidence\.seen\[0\]\.share`"
    ):
        encode(event)


def test_what_json_does_not_know_is_refused() -> None:
    event = ActionPostchecked(time=1, action_id="a", verdict="effective", effective_time=1, evidence={"x": object()})
    with pytest.raises(LogError, match="can't be written"):
        encode(event)


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=type_tag)
def test_a_body_of_something_else_is_refused(kind: type[Event]) -> None:
    for body in (b"", b"{}", b"\x93\x01\x02\x03", zstandard.compress(b"\x80"), b'{"type":"something.else.1","time":1}'):
        with pytest.raises(LogCorrupted):
            decode(type_tag(kind), body)


def test_a_column_that_an_older_body_lacks_gets_the_default_of_its_field() -> None:
    event = LogsCollected(
        time=1, rows=(LogRow(time=2, service="cart", severity="INFO", body="hi", attributes={"a": "b"}),)
    )
    columns = msgspec.msgpack.decode(zstandard.decompress(encode(event)))
    del columns["column_attributes"]
    older = zstandard.compress(msgspec.msgpack.encode(columns))
    assert decode("telemetry.logs.1", older) == msgspec.structs.replace(
        event, rows=(msgspec.structs.replace(event.rows[0], attributes={}),)
    )
    del columns["column_body"]
    with pytest.raises(LogCorrupted, match="body"):
        decode("telemetry.logs.1", zstandard.compress(msgspec.msgpack.encode(columns)))


def span(number: int) -> Span:
    return Span(
        time=number,
        duration_ns=number,
        trace_id=f"{number * 2654435761:032x}",
        span_id=f"{number * 40503:016x}",
        parent_span_id="",
        service="cart",
        peer="",
        operation="get",
        kind="server",
        protocol="grpc",
        status="ok",
    )


def test_a_small_event_is_one_part() -> None:
    (part,) = split(SpansCollected(time=1, rows=(span(1),)))
    assert part.event == SpansCollected(time=1, rows=(span(1),))


@given(st.integers(0, 300), st.integers(600, 3000))
@settings(max_examples=30, deadline=None)
def test_parts_hold_all_rows_in_order_and_keep_the_limit(rows: int, limit: int) -> None:
    event = SpansCollected(time=1, rows=tuple(span(number) for number in range(rows)))
    parts = split(event, limit)
    assert all(len(part.body) <= limit and part.body == encode(part.event) for part in parts)
    assert all(isinstance(part.event, SpansCollected) and part.event.time == 1 for part in parts)
    assert tuple(row for part in parts for row in part.event.rows) == event.rows  # type: ignore[attr-defined]


def test_samples_are_split_without_losing_their_order() -> None:
    event = samples(3000)
    parts = [part.event for part in split(event, 4000)]
    assert len(parts) > 1
    assert sum(row_count(part) for part in parts) == 3000
    values = np.concatenate([part.values for part in parts if isinstance(part, SamplesCollected)])
    assert values.tobytes() == event.values.tobytes()


def test_what_can_not_be_split_is_refused_with_both_sizes() -> None:
    with pytest.raises(LogError, match=r"run\.aborted\.1: 1\d{3} bytes in one event; a message holds at most 500"):
        split(RunAborted(time=1, reason="x" * 1000), 500)
    with pytest.raises(LogError, match="in one row"):
        split(SpansCollected(time=1, rows=(span(1),)), 50)


def test_a_control_event_that_is_too_long_for_a_message_is_compressed_and_comes_back() -> None:
    event = RunAborted(time=1, reason="the same again, " * BODY_LIMIT)
    (part,) = split(event)
    assert len(part.body) < BODY_LIMIT
    assert decode(type_tag(event), part.body) == event
    assert content_type(RunAborted, part.body).endswith("json+zstd")
    assert content_type(RunAborted, encode(RunAborted(time=1, reason="x"))) == "application/json"


def test_every_bulk_event_but_samples_has_rows() -> None:
    for kind in EVENT_TYPES:
        if issubclass(kind, BulkEvent) and not issubclass(kind, SamplesCollected):
            assert typing.get_type_hints(kind)["rows"]
