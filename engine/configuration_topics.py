"""Checks of an application's topics: whom they name, and how often things happen there.

In: a service configuration. Out: nothing, or the error that says where, what, and what would be right. Upstream: `configuration_checks`.
"""

from __future__ import annotations

from collections.abc import Iterable

from otel_control_gym.engine.errors import ConfigurationError, nearest
from otel_control_gym.engine.settings import Consumer, ServiceConfiguration

__all__ = ("check_topics",)


def check_topics(services: ServiceConfiguration, file: str) -> None:
    """See to it that brokers, consumers and their operations exist, and edges between them.

    Raises:
        ConfigurationError: they don't, or a number can't be.
    """
    appended: dict[tuple[str, str], str] = {}
    for name, topic in services.topics.items():
        key = f"topics.{name}"
        _operation(services, topic.broker, topic.operation, file, key, "broker")
        other = appended.setdefault((topic.broker, topic.operation), name)
        if other != name:
            problem = f"topic {other!r} is appended to by this operation too"
            _refuse(file, f"{key}.operation", topic.operation, problem, "give each topic an operation of its own")
        if topic.partitions < 1:
            _refuse(file, f"{key}.partitions", topic.partitions, "a topic has partitions", "use at least 1")
        groups: list[str] = []
        for number, consumer in enumerate(topic.consumers):
            at = f"{key}.consumers[{number}]"
            _check_consumer(services, topic.broker, consumer, file, at)
            if consumer.group in groups:
                problem = "another consumer of this topic is in that group"
                _refuse(file, f"{at}.group", consumer.group, problem, "give each consumer a group of its own")
            groups.append(consumer.group)


def _check_consumer(services: ServiceConfiguration, broker: str, consumer: Consumer, file: str, key: str) -> None:
    _operation(services, consumer.service, consumer.operation, file, key, "service")
    if (broker, consumer.service) not in [(edge.source, edge.target) for edge in services.edges]:
        problem = f"there is no edge {broker}->{consumer.service}, on which messages are counted"
        _refuse(file, f"{key}.service", consumer.service, problem, "declare it in edges, with protocol kafka")
    for field in ("poll_ms", "commit_seconds", "session_seconds"):
        if getattr(consumer, field) <= 0:
            _refuse(file, f"{key}.{field}", getattr(consumer, field), "not above 0", "use a positive number")


def _operation(services: ServiceConfiguration, service: str, operation: str, file: str, key: str, field: str) -> None:
    if service not in services.services:
        _unknown(file, f"{key}.{field}", service, "no service has this name", services.services)
    operations = services.services[service].operations
    if operation not in operations:
        _unknown(file, f"{key}.operation", operation, f"service {service!r} has no such operation", operations)


def _unknown(file: str, key: str, found: str, problem: str, accepted: Iterable[str]) -> None:
    _refuse(file, key, found, problem, nearest(found, list(accepted)))


def _refuse(file: str, key: str, found: object, problem: str, remedy: str) -> None:
    raise ConfigurationError(file=file, key=key, found=found, problem=problem, remedy=remedy)
