"""Domain randomisation: a configuration with `randomize:` or a workload's `shape:` ➜ the one that a run with this seed has.

In: a checked `RunConfig`, whose seed is known. Out: the effective one, complete and without these two; the same seed gives the same.
`env.reset` calls it, so two resets with different seeds are two applications of one family. Names, nodes and edges stay what they are.
A shape, whatever its draws, becomes the curve of the workload that was drawn (`engine.workload_shapes`).

Every draw has a key of its own (what it is for, which service or edge), so a further bound in the file shifts no other draw.
"""

from __future__ import annotations

from typing import Final

import msgspec

from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.randomness import derive_seed, draw_uniform
from otel_control_gym.engine.settings import (
    Bounds,
    Call,
    EdgeSettings,
    Operation,
    Randomization,
    RunConfig,
    Service,
    ServiceConfiguration,
    Step,
    Workload,
    WorkloadPoint,
)
from otel_control_gym.engine.workload_shapes import shaped

__all__ = ("check_randomization", "randomized")

_STEPS: Final = 1000
_MILLI: Final = 1000
_FACTORS: Final = ("work", "cpu_limit", "cpu_request", "memory_limit", "memory_request", "start", "latency", "load")


def randomized(config: RunConfig) -> RunConfig:
    """Return the configuration that its seed makes of it; itself, if nothing is to be randomised and the load has no shape."""
    drawn = _drawn(config)
    workload = shaped(drawn.workload, drawn.public.horizon_seconds, drawn.seed)
    return drawn if workload is drawn.workload else msgspec.structs.replace(drawn, workload=workload)


def check_randomization(bounds: Randomization, services: ServiceConfiguration, file: str) -> None:
    """See to it that whatever is drawn can be run.

    Raises: ConfigurationError: bounds aren't bounds, or a process would outgrow the smallest memory limit before it serves.
    """
    problem, remedy = "not two ascending numbers above 0", "write [lowest, highest], e.g. [0.5, 2.0]"
    for name in _FACTORS:
        found: tuple[float, float] = getattr(bounds, name)
        if not 0 < found[0] <= found[1]:
            raise _error(file, name, list(found), problem, remedy)
    if bounds.replicas is not None and not 1 <= bounds.replicas[0] <= bounds.replicas[1]:
        raise _error(file, "replicas", list(bounds.replicas), problem, "write [fewest, most], e.g. [1, 3]")
    low, high = bounds.optional_calls_dropped
    if not 0 <= low <= high <= 1:
        problem, remedy = "not two ascending shares", "write [lowest, highest] with numbers from 0 to 1"
        raise _error(file, "optional_calls_dropped", [low, high], problem, remedy)
    for name, service in services.services.items():
        limit, base = service.memory_limit_bytes, service.memory_base_bytes
        if limit is not None and base <= limit and limit * bounds.memory_limit[0] < base:
            problem = f"the process of {name!r} needs {base / limit:.2f} of its limit before it serves, so it would be killed for ever"
            raise _error(file, "memory_limit", list(bounds.memory_limit), problem, f"use at least {base / limit:.2f}")


def _drawn(config: RunConfig) -> RunConfig:
    bounds = config.scenario.randomize or config.public.services.randomize
    if bounds is None:
        return config
    draws = _Draws(bounds, derive_seed(config.seed, "randomization"))
    return msgspec.structs.replace(
        config,
        public=msgspec.structs.replace(config.public, services=draws.application(config.public.services)),
        workload=draws.workload(config.workload),
        scenario=msgspec.structs.replace(config.scenario, randomize=None),
    )


def _error(file: str, name: str, found: object, problem: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(file=file, key=f"randomize.{name}", found=found, problem=problem, remedy=remedy)


class _Draws:
    """The draws of one run."""

    def __init__(self, bounds: Randomization, seed: int) -> None:
        self._bounds = bounds
        self._seed = seed

    def application(self, application: ServiceConfiguration) -> ServiceConfiguration:
        dropped = self._dropped(application)
        return msgspec.structs.replace(
            application,
            services={name: self._service(name, service, dropped) for name, service in application.services.items()},
            edges=tuple(map(self._edge, application.edges)),
            randomize=None,
        )

    def workload(self, workload: Workload) -> Workload:
        factor = self._factor(self._bounds.load, "load", "")
        return msgspec.structs.replace(
            workload,
            users=round(workload.users * factor),
            rate_per_s=workload.rate_per_s * factor,
            curve=tuple(_scaled(point, factor) for point in workload.curve),
        )

    # --- draws ------------------------------------------------------------------------------------------------------------

    def _share(self, purpose: str, entity: str) -> float:
        """Return one of a thousand steps from 0 to 1, both possible."""
        step = int(draw_uniform(derive_seed(self._seed, f"{purpose} {entity}")) * (_STEPS + 1))
        return step / _STEPS

    def _factor(self, bounds: Bounds, purpose: str, entity: str) -> float:
        low, high = bounds
        if low == high:
            return low
        drawn = low * float((high / low) ** self._share(purpose, entity))
        return min(max(drawn, low), high)  # rounding may have gone beyond

    def _dropped(self, application: ServiceConfiguration) -> frozenset[tuple[str, str, int, int]]:
        """Return which calls nobody makes, as (service, operation, step, call)."""
        optional = [
            (name, operation, row, column)
            for name, service in application.services.items()
            for operation, settings in service.operations.items()
            for row, step in enumerate(settings.steps)
            for column, call in enumerate(step.calls)
            if call.on_error == "ignore"
        ]
        low, high = self._bounds.optional_calls_dropped
        count = int((low + (high - low) * self._share("dropped", "")) * len(optional))
        order = sorted(optional, key=lambda place: draw_uniform(derive_seed(self._seed, f"dropped {place}")))
        return frozenset(order[:count])

    # --- records ----------------------------------------------------------------------------------------------------------

    def _service(self, name: str, service: Service, dropped: frozenset[tuple[str, str, int, int]]) -> Service:
        bounds = self._bounds
        work = self._factor(bounds.work, "work", name)
        cpu_limit = service.cpu_limit_cores
        if cpu_limit is not None:
            cpu_limit = _millicores(cpu_limit * self._factor(bounds.cpu_limit, "cpu limit", name))
        cpu_request = _millicores(service.cpu_request_cores * self._factor(bounds.cpu_request, "cpu request", name))
        memory_limit = service.memory_limit_bytes
        if memory_limit is not None:
            memory_limit = round(memory_limit * self._factor(bounds.memory_limit, "memory limit", name))
        memory_request = round(
            service.memory_request_bytes * self._factor(bounds.memory_request, "memory request", name)
        )
        return msgspec.structs.replace(
            service,
            replicas=self._replicas(name, service),
            cpu_limit_cores=cpu_limit,
            cpu_request_cores=cpu_request if cpu_limit is None else min(cpu_request, cpu_limit),
            memory_limit_bytes=memory_limit,
            memory_request_bytes=memory_request if memory_limit is None else min(memory_request, memory_limit),
            start_seconds=service.start_seconds * self._factor(bounds.start, "start", name),
            operations={
                operation: _operation(
                    settings, work, [place[2:] for place in dropped if place[:2] == (name, operation)]
                )
                for operation, settings in service.operations.items()
            },
        )

    def _replicas(self, name: str, service: Service) -> int:
        if self._bounds.replicas is None or service.kind != "service" or service.stateful or service.protected:
            return service.replicas
        low, high = self._bounds.replicas
        return min(high, low + int(self._share("replicas", name) * (high - low + 1)))

    def _edge(self, edge: EdgeSettings) -> EdgeSettings:
        factor = self._factor(self._bounds.latency, "latency", f"{edge.source}->{edge.target}")
        return msgspec.structs.replace(edge, latency_ms=edge.latency_ms * factor)


def _scaled(point: WorkloadPoint, factor: float) -> WorkloadPoint:
    """Return a point of a curve with another load."""
    if point.users is not None:
        return msgspec.structs.replace(point, users=round(point.users * factor))
    return msgspec.structs.replace(point, rate_per_s=(point.rate_per_s or 0.0) * factor)


def _operation(operation: Operation, work: float, dropped: list[tuple[int, int]]) -> Operation:
    """Return an operation with other work, without the calls at some places (step, call)."""

    def kept(row: int, calls: tuple[Call, ...]) -> tuple[Call, ...]:
        return tuple(call for column, call in enumerate(calls) if (row, column) not in dropped)

    steps = (
        Step(work_ms=step.work_ms * work, calls=kept(row, step.calls), parallel=step.parallel)
        for row, step in enumerate(operation.steps)
    )
    return msgspec.structs.replace(operation, steps=tuple(steps), tail_ms=operation.tail_ms * work)


def _millicores(cores: float) -> float:
    """Return what Kubernetes would store, at least one."""
    return max(1, round(cores * _MILLI)) / _MILLI
