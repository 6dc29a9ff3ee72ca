"""How fast each application lives at several loads, and how time and memory grow with the number of services.

`speeds` runs the demo's configurations at 50, 200 and 1,000 requests/s: with all wires (HTTP, watches, OTLP, JetStream) and as the kernel
alone. What is wanted is the price of a request, not of a queue: at k times 50 requests/s every operation works a k-th of its time, so
that all services are as busy as they are at 50.

`growth` runs generated graphs of 25 to 1,000 services under one load, each in a process of its own: the kernel per call, the step with
all wires per service, the known state (reset), the process's peak memory. A figure that grows faster than the services is a defect.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import msgspec
from kernel import start
from result import Measurement

import otel_control_gym as ocg
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import Operation, Service, ServiceConfiguration, Workload

__all__ = ("growth", "speeds")

CONFIGURATIONS = ("small-core", "medium-store", "async-store", "review-store")
RATES = (50, 200, 1000)  #: requests per second
SIZES = (25, 100, 400, 1000)  #: services
_BASE_RATE = 50.0
_SETTLED = 60  #: seconds before the measurement begins
_STEP = 30
_ENDLESS = 10_000 * _STEP  #: seconds; the benchmark decides when to stop


async def speeds(*, small: bool) -> list[Measurement]:
    """Measure simulated seconds per second of every configuration at every rate."""
    measurements: list[Measurement] = []
    for name in ("medium-store",) if small else CONFIGURATIONS:
        for rate in RATES[:1] if small else RATES:
            seconds = _STEP if small else 6 * _STEP
            config = at_rate(ocg.resolve(name, seed=1, horizon_seconds=_ENDLESS), rate)
            kernel = _kernel(config, seconds)
            episode = await _episode(config, seconds)
            detail = {"digest": kernel.digest, "calls": kernel.calls}
            measurements += [
                Measurement(
                    name=f"{name} at {rate} requests/s, all wires",
                    value=episode.speed,
                    unit="x real time",
                    floor=kernel.speed,
                    floor_name="the kernel alone",
                    aim=">= 500" if (name, rate) == ("medium-store", 50) else "",
                    detail=detail,
                ),
                Measurement(
                    name=f"{name} at {rate} requests/s, kernel",
                    value=kernel.calls / kernel.seconds,
                    unit="calls/s",
                    detail=detail,
                ),
            ]
    return measurements


def growth(*, small: bool) -> list[Measurement]:
    """Measure generated graphs of growing size at 50 requests/s."""
    measurements: list[Measurement] = []
    for size in SIZES[:1] if small else SIZES:
        found = _in_own_process(f"synthetic:{size},1", _STEP if small else 6 * _STEP)
        detail = {"digest": found["digest"]}
        measurements += [
            Measurement(name=f"{size} services: {name}", value=float(found[name]), unit=unit, detail=detail)
            for name, unit in (
                ("kernel, per call", "us"),
                ("step of 30 s with all wires, per service", "ms"),
                ("reset, per service", "ms"),
                ("peak memory", "MiB"),
            )
        ]
    return measurements


def at_rate(config: ocg.RunConfig, rate: float) -> ocg.RunConfig:
    """Return a configuration under open arrivals at a rate of requests, with all services as busy as at 50 requests/s."""
    services = config.public.services
    total = sum(flow.weight for flow in services.flows.values())
    requests = sum(
        flow.weight / total * (1 + (len(flow.requests) - 1) * max(1.0, sum(flow.additions) / 2))
        for flow in services.flows.values()
    )
    workload = Workload(name=f"open-{rate:g}", arrivals="open", rate_per_s=rate / requests)
    public = msgspec.structs.replace(config.public, services=_lighter(services, _BASE_RATE / rate))
    return msgspec.structs.replace(config, public=public, workload=workload)


def _lighter(services: ServiceConfiguration, factor: float) -> ServiceConfiguration:
    def operation(found: Operation) -> Operation:
        steps = tuple(msgspec.structs.replace(step, work_ms=step.work_ms * factor) for step in found.steps)
        return msgspec.structs.replace(found, steps=steps, tail_ms=found.tail_ms * factor)

    def service(found: Service) -> Service:
        return msgspec.structs.replace(
            found, operations={name: operation(settings) for name, settings in found.operations.items()}
        )

    return msgspec.structs.replace(
        services, services={name: service(settings) for name, settings in services.services.items()}
    )


class _Lived(msgspec.Struct, frozen=True, kw_only=True):
    """What living for a while took."""

    speed: float  #: simulated seconds per second
    seconds: float  #: of this machine
    calls: int = 0
    digest: str = ""
    reset_seconds: float = 0.0


def _kernel(config: ocg.RunConfig, seconds: int) -> _Lived:
    simulation = start(config.public.services, config.workload)
    simulation.run(_SETTLED * SECOND)
    before = simulation.statistics().hops
    began = time.perf_counter()
    simulation.run((_SETTLED + seconds) * SECOND)
    elapsed = time.perf_counter() - began
    return _Lived(
        speed=seconds / elapsed,
        seconds=elapsed,
        calls=simulation.statistics().hops - before,
        digest=hashlib.sha256(simulation.edge_buckets.tobytes()).hexdigest(),
    )


async def _episode(config: ocg.RunConfig, seconds: int) -> _Lived:
    with tempfile.TemporaryDirectory() as directory:
        async with ocg.make(config, data_dir=directory) as env:
            began = time.perf_counter()
            await env.reset()
            ready = time.perf_counter()
            await env.step(ocg.Noop())
            settled = time.perf_counter()
            for _ in range(seconds // _STEP):
                await env.step(ocg.Noop())
            elapsed = time.perf_counter() - settled
    return _Lived(speed=seconds / elapsed, seconds=elapsed, reset_seconds=ready - began)


def _in_own_process(target: str, seconds: int) -> dict[str, float | str]:
    answer = subprocess.run(
        [sys.executable, str(Path(__file__)), target, str(seconds)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONSAFEPATH": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float | str] = json.loads(answer.stdout)
    return found


def _measured(target: str, seconds: int) -> dict[str, float | str]:
    config = at_rate(ocg.resolve(target, seed=1, horizon_seconds=_ENDLESS), _BASE_RATE)
    size = len(config.public.services.services)
    _kernel(config, 1)  # compiled, or loaded
    kernel = _kernel(config, seconds)
    episode = anyio.run(lambda: _episode(config, seconds), backend_options={"use_uvloop": True})
    return {
        "kernel, per call": kernel.seconds / kernel.calls * 1e6,
        "step of 30 s with all wires, per service": episode.seconds / (seconds / _STEP) / size * 1e3,
        "reset, per service": episode.reset_seconds / size * 1e3,
        "peak memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "digest": kernel.digest,
    }


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1], int(sys.argv[2]))))
