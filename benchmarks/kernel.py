"""How fast the twin's kernel runs, alone: small-core under its steady load, and one M/M/1 queue.

`measure` returns figures and a digest of the work done. Sizes: small is a check that it works; large takes about 20 s, cold compilation
(in a process of its own, with an empty cache) included.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.settings import (
    EdgeSettings,
    Flow,
    Operation,
    Service,
    ServiceConfiguration,
    Workload,
)
from otel_control_gym.stands.twin.simulation import Simulation

__all__ = ("measure",)

_USERS = 190  #: about 51 requests/s, 350 hops/s
_FIRST_RUN = """
import sys, time
began = time.perf_counter()
sys.path.insert(0, sys.argv[1])
import kernel
imported = time.perf_counter()
kernel.start(kernel.queue(), kernel.arrivals()).run(1)
print(time.perf_counter() - imported)
"""


def measure(*, small: bool) -> dict[str, float | str]:
    """Run the kernel's benchmarks and return figures (rates per second of this machine's time) and a digest of the work."""
    seconds, requests = (60, 20_000) if small else (3600, 2_000_000)
    digest = hashlib.sha256()
    start(queue(), arrivals()).run(1)  # compiled, or loaded
    figures: dict[str, float | str] = {}
    for name, probability in (("sampled spans", 0.02), ("all spans", 1.0)):
        simulation = start(_small_core(), Workload(name="steady", users=_USERS))
        simulation.set_span_probability(probability)
        taken, began = 0, time.perf_counter()
        for moment in range(0, seconds + 1, 5):  # as the twin does: a scrape every 5 s
            simulation.run(moment * SECOND)
            taken += len(simulation.take_spans())
        elapsed = time.perf_counter() - began
        figures[f"small-core, {name} [hops/s]"] = simulation.statistics().hops / elapsed
        figures[f"small-core, {name} [simulated s/s]"] = seconds / elapsed
        digest.update(f"{name} {taken} {simulation.statistics().events}".encode())
        digest.update(simulation.edge_buckets.tobytes())
    simulation = start(queue(), arrivals())
    began = time.perf_counter()
    simulation.run(requests * SECOND // 80)
    figures["M/M/1 at 0.8 [hops/s]"] = simulation.statistics().hops / (time.perf_counter() - began)
    digest.update(simulation.edge_buckets.tobytes())
    if not small:
        with tempfile.TemporaryDirectory() as cache:
            figures["compilation, cold [s]"] = _first_run_seconds(cache)
            figures["compilation, cached [s]"] = _first_run_seconds(cache)
    figures["digest"] = digest.hexdigest()
    return figures


def start(config: ServiceConfiguration, workload: Workload) -> Simulation:
    """Return a simulation with one ready pod per service."""
    simulation = Simulation(config, workload, 1, 0)
    for name, service in config.services.items():
        simulation.add_pod(
            name,
            ordinal=0,
            cpu_limit_cores=service.cpu_limit_cores,
            memory_limit_bytes=service.memory_limit_bytes,
        )
    for slot in range(len(config.services)):
        simulation.set_ready(slot, True)
    return simulation


def queue() -> ServiceConfiguration:
    """Return one server with exponential work of 10 ms."""
    return ServiceConfiguration(
        name="queue",
        demo_version="",
        chart_version="",
        entry="server",
        services={
            "server": Service(workers=1, operations={"do": Operation(tail_ms=10.0, distribution="exponential")}),
            "load": Service(kind="workload"),
        },
        edges=(EdgeSettings(source="load", target="server", protocol="http", connection="per_request"),),
        flows={"only": Flow(weight=1.0, requests=("do",))},
    )


def arrivals() -> Workload:
    """Return open arrivals at 80 a second."""
    return Workload(name="open", arrivals="open", rate_per_s=80.0)


def _small_core() -> ServiceConfiguration:
    return load_services("small-core")[0]


def _first_run_seconds(cache: str) -> float:
    """Return how long a fresh process takes for its first run, with a cache folder of its own."""
    answer = subprocess.run(
        [sys.executable, "-c", _FIRST_RUN, str(Path(__file__).parent)],
        env={**os.environ, "XDG_CACHE_HOME": cache, "PYTHONSAFEPATH": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(answer.stdout)


if __name__ == "__main__":
    print(json.dumps(measure(small="--small" in sys.argv), indent=2))
