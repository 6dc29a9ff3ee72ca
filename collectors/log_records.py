"""OTLP log records ➜ rows, and which of them a policy mustn't see.

In: a decoded ResourceLogs, which is used up. Out: `LogRow` in two lots, public and truth.

- **Severity.** SDKs spell it as their language does (`Information`, `info`, `WARNING`); its number is the specification's. The number
  decides, and the row has one of six names; where no number was sent the text is read. A text that says it otherwise is kept.
- **Flags leak**: see `collectors.attributes`. Records that speak of a flag go to the truth stream whole.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from otel_control_gym.collectors.attributes import (
    FLAG_SERVICES,
    SAMPLING,
    attributes,
    is_flag,
    sent_probability,
    speaks_of_flags,
    take_probability,
    text,
)
from otel_control_gym.engine.events import LogRow

__all__ = ("log_rows", "severity")

_NAMES = ("UNSPECIFIED", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")  #: four numbers each, from 1
_HIGHEST = 24
_OWN = ("trace_id", "span_id", "time_unix_nano", "observed_time_unix_nano", "body")
_KINDS_OF_RECORDS = 1 << 12  #: that are remembered
#: Severity texts of the languages and of syslog ➜ number, as the log data model maps them.
_NUMBERS = {
    "TRACE": 1,
    "VERBOSE": 1,
    "FINEST": 1,
    "DEBUG": 5,
    "FINE": 5,
    "INFO": 9,
    "INFORMATION": 9,
    "INFORMATIONAL": 9,
    "NOTICE": 10,
    "WARN": 13,
    "WARNING": 13,
    "ERROR": 17,
    "ERR": 17,
    "SEVERE": 17,
    "ALERT": 19,
    "FATAL": 21,
    "CRITICAL": 21,
    "EMERGENCY": 21,
    "PANIC": 21,
}


def severity(number: int, name: str) -> tuple[str, int]:
    """Return a severity's name (TRACE, DEBUG, INFO, WARN, ERROR, FATAL, UNSPECIFIED) and its number 0..24 (0: unspecified)."""
    if not 0 < number <= _HIGHEST:
        number = _NUMBERS.get(name.strip().upper(), 0)
    return _NAMES[(number + 3) // 4], number


def log_rows(resource_logs: Any, flags: tuple[str, ...] = ()) -> tuple[list[LogRow], list[LogRow]]:
    """Return the public rows of one ResourceLogs, and the rows of the truth stream; `flags` are the names of the application's flags."""
    resource = attributes(resource_logs.resource.attributes)
    service, pod = resource.get("service.name", ""), resource.get("k8s.pod.name", "")
    public: list[LogRow] = []
    truth: list[LogRow] = []
    for scope in resource_logs.scope_logs:
        for record in scope.log_records:
            row, tells_of_flags = _log_row(record, service, pod, flags)
            (truth if tells_of_flags else public).append(row)
    return public, truth


def _log_row(record: Any, service: str, pod: str, flags: tuple[str, ...]) -> tuple[LogRow, bool]:
    """Return a record's row, and whether it speaks of a flag; the record is taken apart for it."""
    probability = take_probability(record.attributes)
    time, body = record.time_unix_nano or record.observed_time_unix_nano, text(record.body)
    trace_id, span_id = record.trace_id.hex(), record.span_id.hex()
    for name in _OWN:
        record.ClearField(name)
    shared = _shared(record.SerializeToString(), pod, flags)
    row = LogRow(
        time=time,
        service=service,
        severity=shared.severity,
        body=body,
        trace_id=trace_id,
        span_id=span_id,
        attributes=shared.attributes,
        severity_number=shared.severity_number,
        sampling_probability=shared.probability if probability is None else probability,
    )
    return row, service in FLAG_SERVICES or shared.tells_of_flags or speaks_of_flags(body, flags)


class _Shared(msgspec.Struct, frozen=True):
    """What records say that differ in nothing but their bodies, ids, times and sampling."""

    severity: str
    severity_number: int
    attributes: dict[str, str]
    tells_of_flags: bool
    probability: float


@lru_cache(maxsize=_KINDS_OF_RECORDS)
def _shared(encoded: bytes, pod: str, flags: tuple[str, ...]) -> _Shared:
    """Return what an encoded record says that was stripped of all that is its own; few are different, so they are remembered."""
    from opentelemetry.proto.logs.v1 import logs_pb2

    record = logs_pb2.LogRecord.FromString(encoded)
    found = attributes(record.attributes)
    probability = sent_probability(found)
    found.pop(SAMPLING, None)
    if pod:
        found["k8s.pod.name"] = pod
    if record.event_name:
        found["event.name"] = record.event_name
    name, number = severity(record.severity_number, record.severity_text)
    if record.severity_text and record.severity_text.upper() != name:
        found["severity_text"] = record.severity_text
    return _Shared(
        severity=name,
        severity_number=number,
        attributes=dict(sorted(found.items())),
        tells_of_flags=any(is_flag(name) for name in found)
        or any(speaks_of_flags(value, flags) for value in found.values()),
        probability=1.0 if probability is None else probability,
    )
