"""Tries on a stand what can't be told by looking: one span round the whole path, and a delay that is measured.

In: where the stand is, what it runs. Out: findings. Meanwhile the stand is held as an episode would hold it (`tenancy`), so that none is
disturbed: while one is under way nothing is tried.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.collectors.otlp_guard import read_guard
from otel_control_gym.engine.cluster_access import ReceiverFiles, listening_address
from otel_control_gym.engine.errors import StandError, StandTaken
from otel_control_gym.engine.probing.delays import Tell, check_edge, probe_delays
from otel_control_gym.engine.probing.span_path import probe_span
from otel_control_gym.engine.probing.stand_clock import PAUSE_SECONDS, StandClock
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.findings import Finding, failed, unknown, warning
from otel_control_gym.stands.cluster.tenancy import tenancy

__all__ = ("Probe", "probe")


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried, and how."""

    edge: str = ""  #: to be delayed, `SOURCE->TARGET`; empty: the one on which a difference is seen best
    collector: str  #: URL of its OTLP over HTTP
    receive: str = ""  #: `HOST:PORT` where the stand's collector sends spans; empty: they are looked for in Jaeger
    guard: ReceiverFiles | None = None  #: of that address
    pause_seconds: float = PAUSE_SECONDS  #: between two looks of whoever waits


async def probe(endpoints: Endpoints, settings: RunSettings, wanted: Probe, tell: Tell) -> tuple[Finding, ...]:
    """Return what was found; the stand is left as it was, also when this is cancelled.

    Raises: UsageError: the application has no such edge. StandError: the stand was lost to somebody else meanwhile.
    """
    if wanted.edge:
        check_edge(wanted.edge, settings.services)
    async with Connection(endpoints) as connection:
        try:
            async with tenancy(connection):
                return await _found(connection, settings, wanted, tell)
        except StandTaken as taken:
            return (
                unknown("probe", f"not tried: {str(taken).partition(chr(10))[0]}", "again when that run has ended"),
            )


async def _found(connection: Connection, settings: RunSettings, wanted: Probe, tell: Tell) -> tuple[Finding, ...]:
    clock = StandClock(connection, pause_seconds=wanted.pause_seconds)
    findings = []
    try:
        async with _receiver(wanted.receive, wanted.guard) as receiver:
            findings.append(await probe_span(connection, wanted.collector, receiver, clock, tell))
    except StandError as error:
        findings.append(warning("span path", str(error), "another --receive, or what listens there has to end"))
    try:
        findings += await probe_delays(connection, settings, wanted.edge, clock, tell)
    except StandError as error:
        findings.append(
            failed("delay", str(error), "ocg doctor without --probe says more; ocg stand clean, if it stays")
        )
    return tuple(findings)


@asynccontextmanager
async def _receiver(address: str, files: ReceiverFiles | None) -> AsyncIterator[OtlpReceiver | None]:
    """Listen for spans; empty: nowhere.

    Raises: StandError: the address can't be listened on. UsageError: what is to guard it can't be read.
    """
    if not address:
        yield None
        return
    host, port = listening_address(address)
    guard = None if files is None else read_guard(files)
    receiver = OtlpReceiver(host, port=port, grpc=True, grpc_port=port - 1, guard=guard)
    async with receiver.open():
        yield receiver
