"""The application as the demo's chart installs it, with our overlay: namespaces, node, Deployments, Services.

In: the `ServiceConfiguration`, the settings of the node. Out: object bodies for the store.

Shape and names are those of chart 0.40.10 (demo 2.2.0): component = Deployment = Service = container, one selector label. What the
chart lacks comes from our overlay, as on a cluster: CPU requests and limits, readiness probes. Environment variables name the
dependencies by Service, as the demo's programs read them.
"""

from __future__ import annotations

from collections.abc import Iterator

from otel_control_gym.engine.settings import Service, ServiceConfiguration, TwinSettings
from otel_control_gym.stands.marks import MARK
from otel_control_gym.stands.twin.admission import admit_deployment
from otel_control_gym.stands.twin.environment import declare
from otel_control_gym.stands.twin.images import image_of
from otel_control_gym.stands.twin.init_containers import declare_waits
from otel_control_gym.stands.twin.objects import NAMESPACE, SECRET, Kind, Object
from otel_control_gym.stands.twin.quantities import format_bytes, format_cores

__all__ = ("NAME_LABEL", "cluster", "cluster_ip", "deployment", "node", "service")

NAME_LABEL = "opentelemetry.io/name"
_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_NODE_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)
_PROBE_SECONDS = 2


def cluster(application: ServiceConfiguration) -> Iterator[tuple[Kind, Object]]:
    """Yield what is there before the application: the namespaces of every cluster and its own, and the note of its installation."""
    for name in (*_NAMESPACES, application.namespace):
        labels = {"kubernetes.io/metadata.name": name} | ({MARK: "true"} if name == application.namespace else {})
        yield (
            NAMESPACE,
            {
                "metadata": {"name": name, "labels": labels},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            },
        )
    # Of Secrets the names alone are kept: there is nothing secret in the twin.
    release = {"name": "otel-demo", "owner": "helm", "status": "deployed", "version": "1"}
    metadata = {"name": "sh.helm.release.v1.otel-demo.v1", "namespace": application.namespace, "labels": release}
    yield SECRET, {"metadata": metadata, "type": "helm.sh/release.v1"}


def node(name: str, settings: TwinSettings, since: str) -> Object:
    """Return the node, ready since a time stamp."""
    capacity = {
        "cpu": format_cores(settings.node_cores),
        "memory": format_bytes(settings.node_memory_bytes),
        "pods": "110",
    }
    conditions = [
        {"type": type_, "status": status, "reason": reason, "message": message}
        | {"lastHeartbeatTime": since, "lastTransitionTime": since}
        for type_, status, reason, message in _NODE_CONDITIONS
    ]
    return {
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
            | {"node-role.kubernetes.io/control-plane": ""},
        },
        "spec": {"podCIDR": "10.244.0.0/16", "podCIDRs": ["10.244.0.0/16"]},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": "172.18.0.2"}, {"type": "Hostname", "address": name}],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "containerd://2.2.0",
                "kernelVersion": "6.12.0",
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.36.2",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "otel-control-gym twin",
                "systemUUID": "",
            },
        },
    }


def deployment(application: ServiceConfiguration, name: str, settings: Service) -> Object:
    """Return the Deployment of a service."""
    container: Object = {
        "name": name,
        "image": image_of(application, name),
        "imagePullPolicy": "IfNotPresent",
        "env": list(declare(application, name)),
        "resources": _resources(settings),
    }
    if settings.listens:
        container["ports"] = [{"name": "service", "containerPort": settings.port, "protocol": "TCP"}]
        container["readinessProbe"] = _probe(settings)
    waits = list(declare_waits(application, name))
    return admit_deployment(
        {
            "metadata": {
                "name": name,
                "namespace": application.namespace,
                "labels": _pod_labels(application, name)
                | {
                    "app.kubernetes.io/part-of": "opentelemetry-demo",
                    "app.kubernetes.io/managed-by": "Helm",
                    "helm.sh/chart": f"opentelemetry-demo-{application.chart_version}",
                },
            },
            "spec": {
                "replicas": settings.replicas,
                "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {NAME_LABEL: name}},
                "template": {
                    "metadata": {
                        "labels": _pod_labels(application, name),
                        "annotations": {"resource.opentelemetry.io/service.namespace": application.namespace},
                    },
                    "spec": {
                        "serviceAccountName": "opentelemetry-demo",
                        "containers": [container],
                    }
                    | ({"initContainers": waits} if waits else {}),
                },
            },
        }
    )


def service(application: ServiceConfiguration, name: str, settings: Service) -> Object:
    """Return the Service of a service."""
    address = cluster_ip(list(application.services).index(name))
    return {
        "metadata": {
            "name": name,
            "namespace": application.namespace,
            "labels": _pod_labels(application, name)
            | {"app.kubernetes.io/part-of": "opentelemetry-demo", "app.kubernetes.io/managed-by": "Helm"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{"name": "tcp-service", "port": settings.port, "protocol": "TCP", "targetPort": settings.port}],
            "selector": {NAME_LABEL: name},
        },
        "status": {"loadBalancer": {}},
    }


def cluster_ip(index: int) -> str:
    """Return the ClusterIP of the n-th service (from 0) in 10.96.0.0/12, after the API server's and the DNS' own."""
    number = index + 20
    return f"10.96.{number // 250}.{number % 250 + 1}"


def _pod_labels(application: ServiceConfiguration, name: str) -> dict[str, str]:
    return {
        NAME_LABEL: name,
        "app.kubernetes.io/component": name,
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/version": application.demo_version,
    }


def _resources(settings: Service) -> Object:
    limits, requests = {}, {"cpu": format_cores(settings.cpu_request_cores)}
    if settings.cpu_limit_cores is not None:
        limits["cpu"] = format_cores(settings.cpu_limit_cores)
    if settings.memory_limit_bytes is not None:
        limits["memory"] = format_bytes(settings.memory_limit_bytes)
    if settings.memory_request_bytes:
        requests["memory"] = format_bytes(settings.memory_request_bytes)
    return {"limits": limits, "requests": requests} if limits else {"requests": requests}


def _probe(settings: Service) -> Object:
    how: Object = (
        {"grpc": {"port": settings.port, "service": ""}}
        if settings.protocol == "grpc"
        else {"tcpSocket": {"port": settings.port}}
    )
    return how | {"periodSeconds": _PROBE_SECONDS, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}
