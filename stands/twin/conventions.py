"""How the demo's services name what they do: span names, resources, attributes of the semantic conventions.

In: the application's configuration, a pod. Out: the texts that series (as labels) and spans (as attributes) carry; both come from here, so
that a span is counted under the name that it bears.

Names are those after the collector's `transform` processor (demo 2.2.0 sets semantic-convention names there): `rpc.service/rpc.method`
for gRPC, method and route for an HTTP server, the method alone for an HTTP client, the statement for databases, topic and what is done with
it for messages (.NET's instrumentation names its span after the receipt, Java's after the processing). The old HTTP
convention (`http.method`) is what the Node and Python instrumentations of this release still write, the stable one the others'.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.settings import Service, ServiceConfiguration
from otel_control_gym.stands.twin.manifests import cluster_ip
from otel_control_gym.stands.twin.state import CLIENT, CONSUMER, INTERNAL, PRODUCER

__all__ = (
    "DIMENSIONS",
    "Attribute",
    "PodIdentity",
    "call_attributes",
    "label",
    "language",
    "message_attributes",
    "message_span_name",
    "peer_labels",
    "resource_attributes",
    "series_labels",
    "span_name",
)

Attribute = str | int | float

_LANGUAGES = ("cpp", "dotnet", "go", "java", "nodejs", "php", "python", "ruby", "rust")
_OLD_HTTP = ("nodejs", "python")
_RESENT = {"http": "http.request.resend_count"}  # protocol -> attribute of a retry

DIMENSIONS = (
    "http.response.status_code",
    "http.status_code",
    "rpc.grpc.status_code",
    "http.request.resend_count",
    "rpc.previous_attempts",
)
"""Attributes that our overlay has the service graph split its counters by: how a call ended in the caller's eyes, and its attempt."""


class PodIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends telemetry: a pod as the collector's k8sattributes processor knows it."""

    uid: str
    name: str
    service: str
    deployment: str
    node: str


def language(service: Service) -> str:
    """Return the SDK's language of a service, as `telemetry.sdk.language` spells it; empty if it sends no telemetry of its own."""
    return service.runtime if service.instrumented and service.runtime in _LANGUAGES else ""


def label(attribute: str) -> str:
    """Return the label that an attribute becomes in Prometheus."""
    return attribute.replace(".", "_")


def series_labels(pod: PodIdentity, namespace: str) -> dict[str, str]:
    """Return the labels that a pod's resource turns into on its way through the collector into Prometheus."""
    return {
        "job": f"{namespace}/{pod.service}",
        "instance": pod.uid,
        "service_name": pod.service,
        "service_namespace": namespace,
        "service_instance_id": pod.uid,
        "k8s_namespace_name": namespace,
        "k8s_deployment_name": pod.deployment,
        "k8s_pod_name": pod.name,
    }


def resource_attributes(pod: PodIdentity, config: ServiceConfiguration) -> dict[str, Attribute]:
    """Return the resource of a pod's spans and logs as it leaves the collector."""
    found: dict[str, Attribute] = {
        "service.name": pod.service,
        "service.namespace": config.namespace,
        "service.version": config.demo_version,
        "service.instance.id": pod.uid,
        "k8s.namespace.name": config.namespace,
        "k8s.deployment.name": pod.deployment,
        "k8s.pod.name": pod.name,
        "k8s.pod.uid": pod.uid,
        "k8s.node.name": pod.node,
    }
    sdk = language(config.services[pod.service])
    return found | {"telemetry.sdk.name": "opentelemetry", "telemetry.sdk.language": sdk} if sdk else found


def peer_labels(config: ServiceConfiguration, *, owner: str, peer: str, kind: int) -> dict[str, str]:
    """Return the labels that tell the peer of a CLIENT or PRODUCER span, where span metrics have these dimensions."""
    if kind == PRODUCER:
        return {"peer_service": peer, "server_address": peer}
    attributes = call_attributes(config, kind=kind, owner=owner, target=peer, operation="", status=0)
    return {label(name): str(attributes[name]) for name in ("rpc.service", "server.address") if name in attributes}


def span_name(kind: int, operation: str, target: Service | None) -> str:
    """Return a span's name.

    Args:
        kind: SERVER, CLIENT or INTERNAL.
        operation: of the service that serves it; of an INTERNAL span: the flow.
        target: the service that serves it; None for INTERNAL.
    """
    if kind == INTERNAL or target is None:
        return f"user_{operation}"
    if target.protocol == "grpc":
        return f"{target.grpc_service}/{operation}" if target.grpc_service else operation
    if target.protocol == "http" and kind == CLIENT:
        return operation.partition(" ")[0]
    return operation


def message_span_name(config: ServiceConfiguration, kind: int, owner: str, operation: str) -> str:
    """Return the name of a span about a message.

    Args:
        kind: PRODUCER or CONSUMER.
        owner: the service whose span it is.
        operation: of the broker (PRODUCER), or of the consumer.
    """
    if kind == PRODUCER:
        return f"{_topic_written(config, operation)} publish"
    topic, _ = _consumption(config, owner, operation)
    return f"{topic} {_consuming(config, owner)}"


def message_attributes(
    config: ServiceConfiguration, *, kind: int, owner: str, operation: str, failed: bool
) -> dict[str, Attribute]:
    """Return the attributes of a PRODUCER or CONSUMER span; see `message_span_name`."""
    found: dict[str, Attribute] = {"messaging.system": "kafka"}
    if kind == CONSUMER:
        topic, group = _consumption(config, owner, operation)
        verb = _consuming(config, owner)
        return found | {
            "messaging.destination.name": topic,
            "messaging.operation.name": verb,
            "messaging.operation.type": verb,
            "messaging.consumer.group.name": group,
        }
    topic = _topic_written(config, operation)
    broker = config.topics[topic].broker
    return found | {
        "messaging.destination.name": topic,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.kafka.producer.success": "false" if failed else "true",
        "peer.service": broker,
        "server.address": broker,
        "server.port": config.services[broker].port,
    }


def _topic_written(config: ServiceConfiguration, operation: str) -> str:
    return next(name for name, topic in config.topics.items() if topic.operation == operation)


def _consumption(config: ServiceConfiguration, service: str, operation: str) -> tuple[str, str]:
    """Return the topic that a service's operation processes messages of, and the group."""
    return next(
        (name, consumer.group)
        for name, topic in config.topics.items()
        for consumer in topic.consumers
        if (consumer.service, consumer.operation) == (service, operation)
    )


def _consuming(config: ServiceConfiguration, service: str) -> str:
    return "receive" if language(config.services[service]) == "dotnet" else "process"


def call_attributes(
    config: ServiceConfiguration, *, kind: int, owner: str, target: str, operation: str, status: int, attempt: int = 0
) -> dict[str, Attribute]:
    """Return the attributes of a SERVER or CLIENT span of a call.

    Args:
        owner: the service whose span it is.
        target: the service that is called.
        status: of the call, as `statuses` has it; 0 over HTTP: nobody answered.
        attempt: 0 for a call's first; a retry's CLIENT span tells which one it is.
    """
    if attempt and kind == CLIENT:
        first = call_attributes(config, kind=kind, owner=owner, target=target, operation=operation, status=status)
        return first | {_RESENT.get(config.services[target].protocol, "rpc.previous_attempts"): attempt}
    settings, sdk = config.services[target], language(config.services[owner])
    match settings.protocol:
        case "grpc":
            rpc = _rpc(settings, operation, status)
            if kind != CLIENT:
                return rpc
            # Go's client writes the address that the Service's name was resolved to.
            address = cluster_ip(list(config.services).index(target)) if sdk == "go" else target
            return rpc | {"server.address": address, "server.port": settings.port}
        case "http":
            return _http(settings, sdk, target, operation, status, client=kind == CLIENT)
        case "sql":
            system = {"db.system": "postgresql", "db.operation": operation.partition(" ")[0]}
            return {**system, "server.address": target, "server.port": settings.port}
        case "resp":
            return {
                "db.system": "redis",
                "db.operation": operation,
                "server.address": target,
                "server.port": settings.port,
            }
        case "kafka":  # what isn't about a message
            return {"messaging.system": "kafka", "server.address": target, "server.port": settings.port}


def _rpc(settings: Service, operation: str, status: int) -> dict[str, Attribute]:
    return {
        "rpc.system": "grpc",
        "rpc.service": settings.grpc_service,
        "rpc.method": operation,
        "rpc.grpc.status_code": status,
    }


def _http(
    settings: Service, sdk: str, target: str, operation: str, status: int, *, client: bool
) -> dict[str, Attribute]:
    method, _, route = operation.partition(" ")
    old = sdk in _OLD_HTTP
    found: dict[str, Attribute] = {"http.method" if old else "http.request.method": method}
    if client:
        url = f"http://{target}:{settings.port}{route}"
        found |= {"http.url" if old else "url.full": url, "server.address": target, "server.port": settings.port}
    else:
        found |= {"http.route": route}
    if status:
        found["http.status_code" if old else "http.response.status_code"] = status
    return found
