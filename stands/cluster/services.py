"""Where a stand's services are: their names and ports, and the URLs under which somebody outside or inside the cluster finds them.

In: `Endpoints` as a kubeconfig gives them, with the URLs that somebody named. Out: `Endpoints` without an empty URL.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.cluster_access import Way
from otel_control_gym.engine.protocols import Endpoints

__all__ = (
    "COLLECTOR",
    "COROOT",
    "COROOT_NAMESPACE",
    "FLAGD",
    "FLAGD_UI",
    "JAEGER",
    "LOAD_GENERATOR",
    "PROMETHEUS",
    "service_url",
    "with_services",
)

PROMETHEUS, LOAD_GENERATOR = "prometheus:9090", "load-generator:8089"
FLAGD_UI, FLAGD = "flagd:4000", "flagd:8016"  #: who writes flags, and who evaluates them
JAEGER = "jaeger:16686"
COLLECTOR = "otel-collector:4318"  #: which takes what programs send: OTLP over HTTP
COROOT, COROOT_NAMESPACE = "coroot-coroot:8080", "coroot"


def service_url(endpoints: Endpoints, service: str, way: Way, *, namespace: str = "") -> str:
    """Return where a service (`NAME:PORT`) is; `namespace`: the application's, where nothing else is said."""
    namespace = namespace or endpoints.namespace
    name, _, port = service.partition(":")
    if way == "dns":
        return f"http://{name}.{namespace}.svc:{port}"
    return f"{endpoints.kubernetes}/api/v1/namespaces/{namespace}/services/{service}/proxy"


def with_services(endpoints: Endpoints, way: Way) -> Endpoints:
    """Return endpoints whose empty URLs lead to the services by their names; given ones stay.

    Who names one address for flags means both of flagd's, as behind the demo's proxy.
    """
    return msgspec.structs.replace(
        endpoints,
        prometheus=endpoints.prometheus or service_url(endpoints, PROMETHEUS, way),
        coroot=endpoints.coroot or service_url(endpoints, COROOT, way, namespace=COROOT_NAMESPACE),
        load_generator=endpoints.load_generator or service_url(endpoints, LOAD_GENERATOR, way),
        jaeger=endpoints.jaeger or service_url(endpoints, JAEGER, way),
        flagd=endpoints.flagd or service_url(endpoints, FLAGD_UI, way),
        flagd_evaluation=endpoints.flagd_evaluation or endpoints.flagd or service_url(endpoints, FLAGD, way),
    )
