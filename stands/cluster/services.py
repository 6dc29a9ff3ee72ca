"""Where a stand's services are: their names and ports, and the URLs under which somebody outside or inside the cluster finds them.

In: `Endpoints` as a kubeconfig gives them, with the URLs that somebody named. Out: `Endpoints` without an empty URL.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.cluster_access import Way
from otel_control_gym.engine.protocols import Endpoints

__all__ = (
    "COROOT",
    "COROOT_NAMESPACE",
    "FLAGD",
    "FLAGD_UI",
    "JAEGER",
    "LOAD_GENERATOR",
    "PROMETHEUS",
    "with_services",
)

PROMETHEUS, LOAD_GENERATOR = "prometheus:9090", "load-generator:8089"
FLAGD_UI, FLAGD = "flagd:4000", "flagd:8016"  #: who writes flags, and who evaluates them
JAEGER = "jaeger:16686"
COROOT, COROOT_NAMESPACE = "coroot-coroot:8080", "coroot"


def with_services(endpoints: Endpoints, way: Way) -> Endpoints:
    """Return endpoints whose empty URLs lead to the services by their names; given ones stay.

    Who names one address for flags means both of flagd's, as behind the demo's proxy.
    """

    def url(service: str, namespace: str = endpoints.namespace) -> str:
        name, _, port = service.partition(":")
        if way == "dns":
            return f"http://{name}.{namespace}.svc:{port}"
        return f"{endpoints.kubernetes}/api/v1/namespaces/{namespace}/services/{service}/proxy"

    return msgspec.structs.replace(
        endpoints,
        prometheus=endpoints.prometheus or url(PROMETHEUS),
        coroot=endpoints.coroot or url(COROOT, COROOT_NAMESPACE),
        load_generator=endpoints.load_generator or url(LOAD_GENERATOR),
        jaeger=endpoints.jaeger or url(JAEGER),
        flagd=endpoints.flagd or url(FLAGD_UI),
        flagd_evaluation=endpoints.flagd_evaluation or endpoints.flagd or url(FLAGD),
    )
