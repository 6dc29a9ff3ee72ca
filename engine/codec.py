"""Event ⇄ body: JSON for what people read, packed columns for what machines do.

In: an event. Out: its body, the same bytes for the same event in every process; and back. Control events are JSON with
sorted keys, tag included, so that any NATS client can tail them (one that is too long for a message, as the declaration of an
application of a thousand services is, under zstd). Bulk events are columns: samples through
`engine.packing`, rows of other kinds column by column as MessagePack under zstd, because neighbours in a column
resemble each other and neighbours in a row don't.

A body has an upper limit (NATS refuses more than 1 MiB): `split` cuts an event into complete events of the same type.
Pair assertion: what JSON can't carry (a NaN would silently become null) is refused when written, not missed when read.

Next: `engine.envelope` puts headers around the body. Old versions: `engine.upcasters`.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from typing import Any

import msgspec
import zstandard

from otel_control_gym.engine.errors import LogCorrupted, LogError
from otel_control_gym.engine.events import (
    EVENT_TYPES,
    BulkEvent,
    Event,
    Row,
    RunDeclared,
    SamplesCollected,
    TruthDeclared,
    type_tag,
)
from otel_control_gym.engine.packing import decompress, pack_samples, unpack_samples
from otel_control_gym.engine.upcasters import upcast

__all__ = ("BODY_LIMIT", "Encoded", "content_type", "decode", "encode", "row_count", "split")

BODY_LIMIT = 768 * 1024  #: bytes; leaves room for headers below NATS' default limit of 1 MiB
ROW_LEVEL = 3  #: of zstd, for text
_ZSTD = b"\x28\xb5\x2f\xfd"  #: how a frame begins; no JSON does
_COLUMN = "column_"  #: before a row's field name, so that it can't meet the names of the body's own fields

_TYPES: dict[str, type[Event]] = {type_tag(kind): kind for kind in EVENT_TYPES}
_JSON = msgspec.json.Encoder(order="deterministic")
_AS_DECLARED = msgspec.json.Encoder()  # keeps the order of keys
_MSGPACK = msgspec.msgpack.Encoder(order="deterministic")


class Encoded(msgspec.Struct, frozen=True):
    """An event, or a complete part of one, with its body."""

    event: Event
    body: bytes


class _Samples(msgspec.Struct, array_like=True, frozen=True):
    """Body of `SamplesCollected`: the event's time beside the packed columns."""

    time: int
    packed: bytes


def encode(event: Event) -> bytes:
    """Return the event's body; equal events give equal bytes.

    A configuration's services, flows and operations are in an order that means something (axes, draws): its events keep it.

    Raises: LogError: the event holds what its body can't carry (a NaN in evidence, an object JSON doesn't know).
    """
    try:
        if isinstance(event, SamplesCollected):
            return _MSGPACK.encode(_Samples(event.time, pack_samples(event.series, event.times, event.values)))
        if isinstance(event, BulkEvent):
            return _encode_rows(event)
        _check_finite(msgspec.to_builtins(event), "$")
        body = (_AS_DECLARED if isinstance(event, RunDeclared | TruthDeclared) else _JSON).encode(event)
        return body if len(body) <= BODY_LIMIT else _compressed(body)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise LogError(f"{type_tag(event)}: can't be written: {error}") from error


def decode(tag: str, body: bytes) -> Event:
    """Return the event of a body that was written under `tag`, lifted to today's version of its type.

    Raises:
        LogError: the tag is unknown, or from a newer program.
        LogCorrupted: the body isn't one of that type.
    """
    tag, body = upcast(tag, body)
    kind = _TYPES[tag]
    try:
        if kind is SamplesCollected:
            samples = msgspec.msgpack.decode(body, type=_Samples)
            series, times, values = unpack_samples(samples.packed)
            return SamplesCollected(time=samples.time, series=series, times=times, values=values)
        if issubclass(kind, BulkEvent):
            return _decode_rows(kind, body)
        return _json_decoder(kind).decode(decompress(body) if body.startswith(_ZSTD) else body)
    except (TypeError, ValueError, msgspec.MsgspecError, zstandard.ZstdError) as error:
        raise LogCorrupted(f"a body of type {tag!r} can't be read: {error}") from error


def split(event: Event, limit: int = BODY_LIMIT) -> list[Encoded]:
    """Return the event with its body, cut into complete events of its type where the body would exceed `limit` bytes.

    The cuts depend on the event alone, so the same event always gives the same messages.

    Raises: LogError: a single row, or a control event, exceeds the limit.
    """
    body = encode(event)
    if len(body) <= limit:
        return [Encoded(event, body)]
    rows = row_count(event)
    if rows < 2:
        raise LogError(
            f"{type_tag(event)}: {len(body)} bytes in one {'row' if rows else 'event'}; a message holds at most {limit}"
        )
    return [part for half in (_rows(event, 0, rows // 2), _rows(event, rows // 2, rows)) for part in split(half, limit)]


def row_count(event: Event) -> int:
    """Return the number of rows of a bulk event; 0 for a control event."""
    if isinstance(event, SamplesCollected):
        return len(event.values)
    if isinstance(event, BulkEvent):
        return len(_rows_of(event))
    return 0


def content_type(kind: type[Event], body: bytes) -> str:
    """Return the media type of a body of an event type."""
    if issubclass(kind, SamplesCollected):
        return "application/vnd.otel-control-gym.samples"
    if issubclass(kind, BulkEvent):
        return "application/vnd.otel-control-gym.columns+zstd"
    return "application/vnd.otel-control-gym.json+zstd" if body.startswith(_ZSTD) else "application/json"


def _check_finite(value: Any, path: str) -> None:
    """Refuse numbers that JSON has no spelling for."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} at `{path}`: no finite number")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_finite(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _check_finite(item, f"{path}[{position}]")


def _rows_of(event: BulkEvent) -> tuple[Row, ...]:
    rows: tuple[Row, ...] = event.rows  # type: ignore[attr-defined]  # every bulk event but samples has them
    return rows


def _rows(event: Event, start: int, end: int) -> Event:
    """Return the event with the rows of [start, end) alone."""
    if isinstance(event, SamplesCollected):
        return SamplesCollected(
            time=event.time,
            series=event.series[start:end],
            times=event.times[start:end],
            values=event.values[start:end],
        )
    assert isinstance(event, BulkEvent)
    return msgspec.structs.replace(event, rows=_rows_of(event)[start:end])


def _encode_rows(event: BulkEvent) -> bytes:
    row_type, columns_type, _ = _columns(type(event))
    rows = _rows_of(event)
    columns = ([getattr(row, name) for row in rows] for name in row_type.__struct_fields__)
    return _compressed(_MSGPACK.encode(columns_type(event.time, len(rows), *columns)))


def _compressed(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=ROW_LEVEL, write_checksum=True).compress(body)


def _decode_rows(kind: type[BulkEvent], body: bytes) -> BulkEvent:
    row_type, _, decoder = _columns(kind)
    columns = decoder.decode(decompress(body))
    present = {
        name: column
        for name in row_type.__struct_fields__
        if (column := getattr(columns, _COLUMN + name)) is not msgspec.UNSET
    }
    if any(len(column) != columns.row_count for column in present.values()):
        raise LogCorrupted(f"{type_tag(kind)}: columns of unequal length")
    rows = tuple(row_type(**dict(zip(present, row, strict=True))) for row in zip(*present.values(), strict=True))
    return kind(time=columns.event_time, rows=rows)  # type: ignore[call-arg]  # every bulk event but samples has rows


@functools.cache
def _columns(kind: type[BulkEvent]) -> tuple[type[Row], type[msgspec.Struct], msgspec.msgpack.Decoder[Any]]:
    """Return a bulk event's row type, the record that holds its rows as columns, and that record's decoder.

    A row type may gain fields that have defaults: a column that an older body lacks stays unset, its rows get the default.
    """
    row_type: type[Row] = typing.get_args(typing.get_type_hints(kind)["rows"])[0]
    hints: dict[str, Any] = typing.get_type_hints(row_type)
    fields: list[Any] = [("event_time", int), ("row_count", int)]
    fields += [
        (_COLUMN + name, types.GenericAlias(list, (hints[name],)) | msgspec.UnsetType, msgspec.UNSET)
        for name in row_type.__struct_fields__
    ]
    columns_type = msgspec.defstruct(f"{kind.__name__}Columns", fields)
    return row_type, columns_type, msgspec.msgpack.Decoder(columns_type)


@functools.cache
def _json_decoder(kind: type[Event]) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(kind)
