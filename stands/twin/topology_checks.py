"""Bounds of an application: numbers that can't be, statuses that a protocol doesn't have.

In: a `ServiceConfiguration`. Out: nothing, or a `ConfigurationError` that names the key; and the statuses that its calls can end with.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import Call, EdgeSettings, Service, ServiceConfiguration
from otel_control_gym.stands.twin.statuses import BOUNDS, DEFAULTS, PROTOCOLS

__all__ = ("check_application", "known_statuses")

_PATIENCE = ("timeout_ms", "retries", "backoff_ms", "jitter", "pool", "pool_timeout_ms", "max_age_seconds")
_CONSUMER_TIMES = ("poll_ms", "commit_seconds", "session_seconds")
_PROXY_STATUSES = (502, 503, 504)  #: with which a proxy answers when it got no answer


def check_application(config: ServiceConfiguration) -> None:
    """See to it that what has bounds keeps them.

    Raises:
        ConfigurationError: a number is out of its bounds.
    """
    error = _Errors(config)
    for name, service in config.services.items():
        key = f"services.{name}"
        if service.cold_work < 0 or service.cold_requests <= 0:
            found = {"cold_work": service.cold_work, "cold_requests": service.cold_requests}
            raise error(key, found, "a process can't be so cold", "use at least 0, and above 0")
        for version, build in service.versions.items():
            at = f"{key}.versions.{version}"
            if min(build.work_factor, build.memory_factor, build.start_factor) < 0:
                raise error(at, msgspec.to_builtins(build), "a factor is negative", "use numbers from 0 on")
            error.check_failure(at, build.failure_ratio, build.failure_status, service)
        for title, operation in service.operations.items():
            at = f"{key}.operations.{title}"
            error.check_failure(at, operation.failure_ratio, operation.failure_status, service)
            for call in (call for step in operation.steps for call in step.calls):
                if not 0 <= call.cache_hit_ratio <= 1:
                    at = f"{at}: cache_hit_ratio of {call.target}"
                    raise error(at, call.cache_hit_ratio, "not a share", "use a number from 0 to 1")
    _check_topics(config, error)
    for row, edge in enumerate(config.edges):
        if min(getattr(edge, name) for name in _PATIENCE) < 0 or edge.jitter > 1:
            found = {name: getattr(edge, name) for name in _PATIENCE}
            raise error(
                f"edges[{row}]", found, "callers can't be so patient", "use numbers from 0 on, a jitter of at most 1"
            )
    for key, caller, way, call in _calls(config):
        error.check_call(key, caller, way, call)


def _check_topics(config: ServiceConfiguration, error: _Errors) -> None:
    """Check what topics and their consumers may be; that what they name exists is seen when they become rows."""
    writers: dict[tuple[str, str], str] = {}
    for name, topic in config.topics.items():
        other = writers.setdefault((topic.broker, topic.operation), name)
        if other != name:
            problem = f"topic {other!r} has this operation of the broker too"
            raise error(f"topics.{name}.operation", topic.operation, problem, "give each topic its own")
        if topic.partitions < 1:
            raise error(f"topics.{name}.partitions", topic.partitions, "a topic has partitions", "use at least 1")
        for place, consumer in enumerate(topic.consumers):
            found = {key: getattr(consumer, key) for key in _CONSUMER_TIMES}
            if min(found.values()) <= 0:
                raise error(f"topics.{name}.consumers[{place}]", found, "times that can't be", "use numbers above 0")


def known_statuses(config: ServiceConfiguration) -> tuple[int, ...]:
    """Return the statuses that calls of an application can end with, ascending."""
    found = set(_PROXY_STATUSES)
    for protocol in DEFAULTS:
        found.update(msgspec.structs.astuple(protocol))
    for service in config.services.values():
        found.update(version.failure_status for version in service.versions.values())
        found.update(operation.failure_status for operation in service.operations.values())
    found.update(call.error_status for _, _, _, call in _calls(config) if call.error_status > 0)
    found.update(effect.failure_status for flag in config.flags.values() for effect in flag.effects)
    return tuple(sorted(found))


def _calls(config: ServiceConfiguration) -> Iterator[tuple[str, Service, EdgeSettings | None, Call]]:
    """Yield (key, calling service, edge, call) of each call of an operation; an edge that isn't there is None."""
    edges = {(edge.source, edge.target): edge for edge in config.edges}
    for name, service in config.services.items():
        for title, operation in service.operations.items():
            for number, step in enumerate(operation.steps):
                for call in step.calls:
                    key = f"services.{name}.operations.{title}.steps[{number}]"
                    yield key, service, edges.get((name, call.target.partition(":")[0])), call


class _Errors:
    """Makes errors that name the application's file."""

    def __init__(self, config: ServiceConfiguration) -> None:
        self._file = f"services/{config.name}.yaml"

    def __call__(self, key: str, found: object, problem: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(file=self._file, key=key, found=found, problem=problem, remedy=remedy)

    def check_failure(self, key: str, ratio: float, status: int, service: Service) -> None:
        """Check how often something fails, and with which status."""
        if not 0 <= ratio <= 1:
            raise self(f"{key}.failure_ratio", ratio, "not a share", "use a number from 0 to 1")
        self._check_status(f"{key}.failure_status", status, service.protocol)

    def check_call(self, key: str, service: Service, edge: EdgeSettings | None, call: Call) -> None:
        """Check the statuses that a call's failure may have, and the one that is no failure."""
        if call.error_status == -1:
            if edge is not None and PROTOCOLS[edge.protocol] != PROTOCOLS[service.protocol]:
                problem = f"a status of {edge.protocol} says nothing over {service.protocol}"
                raise self(
                    f"{key}.error_status of {call.target}", -1, problem, "name the status that the caller answers with"
                )
        else:
            self._check_status(f"{key}.error_status of {call.target}", call.error_status, service.protocol)
        if edge is not None:
            self._check_status(f"{key}.tolerates of {call.target}", call.tolerates, edge.protocol)

    def _check_status(self, key: str, status: int, protocol: str) -> None:
        first, last = BOUNDS[PROTOCOLS[protocol]]
        if status != 0 and not first <= status <= last:
            remedy = f"use {first} to {last}, or 0 for the protocol's own"
            raise self(key, status, f"no status of an error of {protocol}", remedy)
