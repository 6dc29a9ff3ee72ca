"""Small applications for the laws: one service of a kind, and a simulation with one ready pod of each service."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_control_gym.engine.settings import (
    EdgeSettings,
    Flow,
    Operation,
    Service,
    ServiceConfiguration,
    Step,
    Workload,
)
from otel_control_gym.stands.twin.simulation import Simulation

Single = Callable[..., ServiceConfiguration]
Start = Callable[..., Simulation]


@pytest.fixture
def single() -> Single:
    """Return a maker of applications with one service, `server`, that does `work_ms` a request; keywords are `Service`'s."""

    def make(
        *, work_ms: float = 10.0, distribution: str = "exponential", variation: float = 0.7, **service: object
    ) -> ServiceConfiguration:
        operation = Operation(
            steps=(Step(work_ms=work_ms),),
            distribution=distribution,  # type: ignore[arg-type]
            variation=variation,
        )
        return ServiceConfiguration(
            name="single",
            demo_version="",
            chart_version="",
            entry="server",
            services={
                "load": Service(kind="workload"),
                "server": Service(operations={"do": operation}, **service),  # type: ignore[arg-type]
            },
            edges=(
                EdgeSettings(source="load", target="server", protocol="http", connection="per_request", latency_ms=0.0),
            ),
            flows={"only": Flow(weight=1.0, requests=("do",))},
        )

    return make


@pytest.fixture
def start() -> Start:
    """Return a maker of simulations with one ready pod per service, slots in the services' order, limits as configured."""

    def make(config: ServiceConfiguration, workload: Workload, seed: int = 1) -> Simulation:
        simulation = Simulation(config, workload, seed, 0)
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

    return make
