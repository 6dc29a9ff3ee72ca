"""A service configuration ➜ values for the OpenTelemetry Demo's Helm chart, so that the cluster has what the twin simulates.

In: a `ServiceConfiguration` of the demo release that the chart is pinned to. Out: two documents of values: `demo_values` keeps the chart's
schema, `probe_values` can't (the schema takes `httpGet` alone) and needs `helm --skip-schema-validation`.

What the chart has by itself isn't repeated. Helm merges maps but replaces lists, so a list that differs in one item is written whole:
init containers (with a pinned image and resources of their own), flagd's sidecar, the collector's receivers.

- A component that the configuration lacks is switched off; one that nobody can do without and that it lacks is an error.
- Without Kafka checkout neither waits for it nor publishes: no init container, and an empty `KAFKA_ADDR`.
- Every container has requests and limits. Of `llm`, to which neither chart nor configuration gives a memory limit, we bound it.
- Programs that bound their own memory are told so: GOMEMLIMIT is four fifths of the limit, a JVM's heap three fifths.
- Load comes from our own locustfile (`locust`), so it has only the tasks that the configuration can serve; it begins at the configuration's
  entry, without browsers, and grows to the users of a workload when an episode begins.

Next: `engine.deployment` writes the packaged configurations' files, a test compares them.
"""

from __future__ import annotations

from typing import Any

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.settings import Service, ServiceConfiguration
from otel_control_gym.stands.cluster.locust import load_values
from otel_control_gym.stands.cluster.pins import Pins
from otel_control_gym.stands.twin.quantities import format_bytes, format_cores

__all__ = ("COMPONENTS", "demo_values", "probe_values")

Values = dict[str, Any]  #: a YAML document: untyped by nature

COMPONENTS = (
    "accounting",
    "ad",
    "cart",
    "checkout",
    "currency",
    "email",
    "flagd",
    "fraud-detection",
    "frontend",
    "frontend-proxy",
    "image-provider",
    "kafka",
    "llm",
    "load-generator",
    "payment",
    "postgresql",
    "product-catalog",
    "product-reviews",
    "quote",
    "recommendation",
    "shipping",
    "valkey-cart",
)
"""What chart 0.40.10 can install, sorted; its schema refuses every other key."""

_INDISPENSABLE = ("flagd", "load-generator")
_MIB = 1024 * 1024
_UNBOUNDED_BYTES = 256 * _MIB  #: limit of a container that has none in the configuration
_SMALL = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}}
_WAITS = {  # component -> what its init container waits for
    "accounting": ("kafka", 9092),
    "cart": ("valkey-cart", 6379),
    "checkout": ("kafka", 9092),
    "fraud-detection": ("kafka", 9092),
}
_OWN_LIMITS = {"go": ("GOMEMLIMIT", "{}MiB", 0.8), "java": ("JDK_JAVA_OPTIONS", "-Xmx{}m", 0.6)}
_PROBE = {"periodSeconds": 2, "timeoutSeconds": 1, "failureThreshold": 3}


def demo_values(services: ServiceConfiguration, pins: Pins) -> Values:
    """Return the values that make the chart install an application.

    Raises: UsageError: the chart can't install it.
    """
    _check(services, pins)
    has_kafka = "kafka" in services.services
    receivers = ["otlp", *(["kafkametrics"] if has_kafka else []), "spanmetrics", "servicegraph"]
    return {
        "components": {
            name: _component(services, name, pins) if name in services.services else {"enabled": False}
            for name in COMPONENTS
        },
        "opentelemetry-collector": {"config": {"service": {"pipelines": {"metrics": {"receivers": receivers}}}}},
    }


def probe_values(services: ServiceConfiguration) -> Values:
    """Return the values that give every container that listens a readiness probe: the twin's, every two seconds.

    gRPC services are asked by the protocol's own health service, flagd by HTTP (its health is on another port), the rest by whether
    they take a connection.
    """
    return {
        "components": {
            name: {"readinessProbe": _probe(name, services.services[name])}
            for name in COMPONENTS
            if name in services.services and services.services[name].listens
        }
    }


def _check(services: ServiceConfiguration, pins: Pins) -> None:
    chart = pins.charts["opentelemetry-demo"]
    if services.chart_version != chart.version:
        raise UsageError(
            f"{services.name} is made for chart {services.chart_version} of the demo, and {chart.version} is pinned: "
            "the chart can't be upgraded, so only that one is installed"
        )
    if unknown := [name for name in services.services if name not in COMPONENTS]:
        raise UsageError(
            f"{services.name} has services that the demo's chart can't install: {', '.join(unknown)}\n"
            "  a cluster runs the demo's own programs; take a configuration of them, such as small-core"
        )
    if missing := [name for name in _INDISPENSABLE if name not in services.services]:
        raise UsageError(f"{services.name} lacks {' and '.join(missing)}, without which the demo doesn't work")


def _component(services: ServiceConfiguration, name: str, pins: Pins) -> Values:
    settings = services.services[name]
    found: Values = {"enabled": True, "replicas": settings.replicas, "resources": _resources(settings)}
    environment = _environment(services, name)
    if name == "load-generator":
        load = load_values(services)
        environment |= load.pop("environment")
        found |= load
    if environment:
        found["envOverrides"] = [{"name": key, "value": value} for key, value in environment.items()]
    if name in _WAITS:
        other, port = _WAITS[name]
        found["initContainers"] = [_wait(other, port, pins)] if other in services.services else []
    if name == "flagd":
        found["initContainers"] = [_copy_flags(pins)]
        found["sidecarContainers"] = [_flagd_ui()]
    return found


def _resources(settings: Service) -> Values:
    memory = settings.memory_limit_bytes or _UNBOUNDED_BYTES
    requests = {
        "cpu": format_cores(settings.cpu_request_cores),
        "memory": format_bytes(settings.memory_request_bytes or memory),
    }
    cpu = settings.cpu_limit_cores if settings.cpu_limit_cores is not None else settings.cpu_request_cores
    return {"requests": requests, "limits": {"cpu": format_cores(cpu), "memory": format_bytes(memory)}}


def _environment(services: ServiceConfiguration, name: str) -> dict[str, str]:
    """Return the variables that differ from the chart's."""
    settings = services.services[name]
    found: dict[str, str] = {}
    if name == "checkout" and "kafka" not in services.services:
        found["KAFKA_ADDR"] = ""
    if name == "load-generator":
        entry = services.services[services.entry]
        found |= {
            "LOCUST_HOST": f"http://{services.entry}:{entry.port}",
            "LOCUST_BROWSER_TRAFFIC_ENABLED": "false",
        }
    if settings.runtime in _OWN_LIMITS and settings.kind == "service" and settings.memory_limit_bytes:
        variable, form, share = _OWN_LIMITS[settings.runtime]
        found[variable] = form.format(int(settings.memory_limit_bytes * share) // _MIB)
    return found


def _wait(other: str, port: int, pins: Pins) -> Values:
    loop = f"until nc -z -v -w30 {other} {port}; do echo waiting for {other}; sleep 2; done;"
    return {
        "name": f"wait-for-{other}",
        "image": pins.image("busybox"),
        "command": ["sh", "-c", loop],
        "resources": _SMALL,
    }


def _copy_flags(pins: Pins) -> Values:
    """Return flagd's init container: the flags come from a ConfigMap, and what is written lies in the pod."""
    return {
        "name": "init-config",
        "image": pins.image("busybox"),
        "command": ["sh", "-c", "cp /config-ro/demo.flagd.json /config-rw/demo.flagd.json"],
        "resources": _SMALL,
        "volumeMounts": [
            {"name": "config-ro", "mountPath": "/config-ro"},
            {"name": "config-rw", "mountPath": "/config-rw"},
        ],
    }


def _flagd_ui() -> Values:
    """Return the sidecar through which flags are changed. Its sessions guard nothing: it is reached inside the cluster only."""
    environment = {
        "FLAGD_METRICS_EXPORTER": "otel",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://$(OTEL_COLLECTOR_NAME):4318",
        "FLAGD_UI_PORT": "4000",
        "SECRET_KEY_BASE": "no-secret-" * 7,
        "PHX_HOST": "localhost",
    }
    return {
        "name": "flagd-ui",
        "useDefault": {"env": True},
        "service": {"port": 4000},
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": {"requests": {"cpu": "50m", "memory": "250Mi"}, "limits": {"cpu": "500m", "memory": "250Mi"}},
        "volumeMounts": [{"name": "config-rw", "mountPath": "/app/data"}],
    }


def _probe(name: str, settings: Service) -> Values:
    if name == "flagd":
        return {"httpGet": {"path": "/readyz", "port": 8014}, **_PROBE}
    if settings.protocol == "grpc":
        return {"grpc": {"port": settings.port}, **_PROBE}
    return {"tcpSocket": {"port": settings.port}, **_PROBE}
