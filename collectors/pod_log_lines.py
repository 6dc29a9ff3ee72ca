"""Lines of a container's log ➜ OTLP log records.

In: what the API server gives with `timestamps=true`: a time, a blank, what the program has written. Out: times and texts, then
ResourceLogs, so that records from pods go the way of those that are pushed (`log_records`: severities, flags). Pure.

Programs write as they like. What is understood:
- A line that begins with a blank goes on with the one before it: stack traces, the second line of .NET's console.
- A JSON object is a record: message, level and ids of trace and span under their usual names, the rest attributes; its own time isn't
  needed, because the kubelet's is there.
- Elsewhere the severity is a word of that meaning where writers put it (first, in capitals among the first words, after `level=`), ids are
  what follows `trace_id=` and `span_id=`. Where there is none the severity isn't specified.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from otel_control_gym.engine.clock import SECOND

__all__ = ("Line", "parsed", "records")

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_MESSAGE = ("message", "msg", "body", "event", "log")
_LEVEL = ("level", "levelname", "severity", "severity_text", "lvl", "LogLevel")
_TRACE = ("trace_id", "traceId", "traceID", "TraceId", "otelTraceID", "trace.id")
_SPAN = ("span_id", "spanId", "spanID", "SpanId", "otelSpanID", "span.id")
_TIMES = ("time", "timestamp", "@timestamp", "ts", "asctime", "Timestamp")
_SHORT = {"trce": "trace", "dbug": "debug", "fail": "error", "crit": "critical"}  #: .NET's
_WORDS = "trace|trce|debug|dbug|info|information|notice|warn|warning|error|err|fail|fatal|critical|crit|panic|severe"
_FIRST = re.compile(rf"[\[<(\"]?({_WORDS})[\]>)\":]", re.IGNORECASE)
_KEYED = re.compile(rf"\b(?:level|lvl|severity)=\"?({_WORDS})\b", re.IGNORECASE)
_CAPITALS = re.compile(rf"(?:\S+\s+){{0,4}}?[\[<(]?({_WORDS.upper()})(?=[\]>): |,])")
_IDS = re.compile(r"\s*\b(trace_id|span_id|trace_flags)=([0-9a-f]*)")
_LONGEST = 1 << 16  #: characters of a record: what goes on for longer is a new one


class Line(msgspec.Struct, frozen=True):
    """A line of a log."""

    time: int  #: [ns]
    text: str


def parsed(body: bytes) -> tuple[list[Line], bool]:
    """Return the lines of an answer, and whether all of it was lines: kubelets tell of a log that they can't read in its place."""
    found, whole = [], True
    for line in body.decode("utf-8", "replace").split("\n"):
        if not line:
            continue
        stamp, _, text = line.partition(" ")
        time = _nanoseconds(stamp)
        if time is None:
            whole = False
        else:
            found.append(Line(time, text))
    return found, whole


def records(lines: Sequence[Line], *, service: str, pod: str) -> Any:
    """Return the ResourceLogs of a container's lines."""
    from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs

    message = ResourceLogs()
    for key, value in (("service.name", service), ("k8s.pod.name", pod)):
        message.resource.attributes.add(key=key).value.string_value = value
    made = message.scope_logs.add().log_records
    for line in _joined(lines):
        record = made.add(time_unix_nano=line.time, observed_time_unix_nano=line.time)
        _fill(record, line.text)
    return message


def _nanoseconds(stamp: str) -> int | None:
    """Return an RFC 3339 time in nanoseconds, all nine digits of it; None: it is none."""
    match = _STAMP.fullmatch(stamp)
    if match is None:
        return None
    whole, fraction, zone = match.groups()
    seconds = int(datetime.fromisoformat(whole + zone.replace("Z", "+00:00")).timestamp())
    return seconds * SECOND + int((fraction or "").ljust(9, "0"))


def _joined(lines: Iterable[Line]) -> list[Line]:
    found: list[Line] = []
    for line in lines:
        if not line.text.strip():
            continue
        goes_on = line.text[0].isspace() and bool(found)
        if goes_on and len(found[-1].text) + len(line.text) < _LONGEST:
            found[-1] = Line(found[-1].time, f"{found[-1].text}\n{line.text}")
        else:
            found.append(line)
    return found


def _fill(record: Any, text: str) -> None:
    fields = _fields(text)
    if fields is None:
        record.body.string_value, ids = _without_ids(text)
        record.severity_text = _severity(text)
    else:
        record.body.string_value = _taken(fields, _MESSAGE)
        record.severity_text = _taken(fields, _LEVEL)
        ids = {"trace_id": _taken(fields, _TRACE), "span_id": _taken(fields, _SPAN)}
        for name in _TIMES:
            fields.pop(name, None)
        for key, value in sorted(fields.items()):
            record.attributes.add(key=key).value.string_value = value
    record.trace_id, record.span_id = _identifier(ids.get("trace_id", ""), 16), _identifier(ids.get("span_id", ""), 8)


def _fields(text: str) -> dict[str, str] | None:
    """Return the fields of a line that is a JSON object with a message, as texts; None: it is something else."""
    if not text.startswith("{"):
        return None
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
    if not any(isinstance(found.get(name), str) for name in _MESSAGE):
        return None
    return {
        key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for key, value in found.items()
        if value is not None
    }


def _taken(fields: dict[str, str], names: Sequence[str]) -> str:
    """Take the first of some fields that is there, and return it."""
    return next((fields.pop(name) for name in names if name in fields), "")


def _severity(text: str) -> str:
    match = _FIRST.match(text) or _KEYED.search(text) or _CAPITALS.match(text)
    word = match[1].lower() if match else ""
    return _SHORT.get(word, word)


def _without_ids(text: str) -> tuple[str, dict[str, str]]:
    found = {match[1]: match[2] for match in _IDS.finditer(text)}
    return (_IDS.sub("", text).rstrip(), found) if found else (text, found)


def _identifier(text: str, size: int) -> bytes:
    """Return an id of so many bytes; none, if the text isn't one or is all zeros."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return b""
    return found if len(found) == size and any(found) else b""
