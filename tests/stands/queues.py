"""A small application with a message broker, for tests: load -> shop -> broker -> consumer groups."""

from __future__ import annotations

from otel_control_gym.engine.settings import (
    Call,
    Consumer,
    EdgeSettings,
    Flag,
    Flow,
    Operation,
    Service,
    ServiceConfiguration,
    Step,
    Topic,
    Workload,
)
from otel_control_gym.stands.twin.simulation import Simulation

LOAD, SHOP, BROKER, BOOKS = 0, 1, 2, 3  #: slots of `start`


def queues(
    *,
    partitions: int = 1,
    work_ms: float = 10.0,
    commit_seconds: float = 5.0,
    session_seconds: float = 10.0,
    consumers: tuple[Consumer, ...] | None = None,
    flags: dict[str, Flag] | None = None,
    **books: object,
) -> ServiceConfiguration:
    """Return an application whose `shop` appends a message per request, and whose `books` take `work_ms` for each."""
    group = Consumer(
        group="books",
        service="books",
        operation="enter",
        poll_ms=100.0,
        commit_seconds=commit_seconds,
        session_seconds=session_seconds,
    )
    publish = Call(target="broker:publish", on_error="ignore")
    enter = Operation(tail_ms=work_ms, distribution="constant")
    return ServiceConfiguration(
        name="queues",
        demo_version="2.2.0",
        chart_version="0.40.10",
        entry="shop",
        services={
            "load": Service(kind="workload", protocol="http"),
            "shop": Service(
                protocol="http", runtime="go", operations={"POST /buy": Operation(steps=(Step(calls=(publish,)),))}
            ),
            "broker": Service(
                kind="dependency", protocol="kafka", port=9092, instrumented=False, operations={"publish": Operation()}
            ),
            "books": Service(runtime="dotnet", listens=False, operations={"enter": enter}, **books),  # type: ignore[arg-type]
        },
        edges=(
            EdgeSettings(source="load", target="shop", protocol="http", connection="per_request"),
            EdgeSettings(source="shop", target="broker", protocol="kafka"),
            EdgeSettings(source="broker", target="books", protocol="kafka"),
        ),
        flows={"buy": Flow(weight=1.0, requests=("POST /buy",))},
        topics={
            "orders": Topic(
                broker="broker", operation="publish", partitions=partitions, consumers=consumers or (group,)
            )
        },
        flags=flags or {},
    )


def start(config: ServiceConfiguration, rate: float, seed: int = 1) -> Simulation:
    """Return a simulation with one ready pod of each service and `rate` requests a second."""
    simulation = Simulation(config, Workload(name="open", arrivals="open", rate_per_s=rate), seed, 0)
    for name, service in config.services.items():
        simulation.add_pod(name, ordinal=0, cpu_limit_cores=service.cpu_limit_cores, memory_limit_bytes=None)
    for slot in range(len(config.services)):
        simulation.set_ready(slot, True)
    return simulation


def add(simulation: Simulation, service: str) -> int:
    """Start another pod of a service, ready at once."""
    ordinal = list(simulation.slots).count(service)
    slot = simulation.add_pod(service, ordinal=ordinal, cpu_limit_cores=None, memory_limit_bytes=None)
    simulation.set_ready(slot, True)
    return slot
