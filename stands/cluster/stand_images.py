"""Which images a stand runs, and the same from a registry of one's own.

In: the pins, a service configuration, a registry. Out: the images by name, with a digest where one is known; values for each chart that
take them from the registry. An image keeps its path there, without the host that it comes from: `ghcr.io/open-telemetry/demo` becomes
`REGISTRY/open-telemetry/demo`. `ocg stand images --registry` prints what has to be copied where.

Digests: nobody could be asked for one where the pins were written. A cluster that has pulled an image knows its digest, so those of the
pods of a stand are filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.stands.cluster.pins import Image, Pins

__all__ = ("StandImage", "digests_of", "image_values", "mirrored", "mirrored_pins", "stand_images")

Values = dict[str, Any]  #: a YAML document: untyped by nature

_STAND = ("demo", "chaos-mesh", "coroot", "gym")
_COROOT_IMAGES = (  # image, where Coroot's values have it
    ("coroot", ("communityEdition",)),
    ("coroot-node-agent", ("nodeAgent",)),
    ("coroot-cluster-agent", ("clusterAgent",)),
    ("coroot-kube-state-metrics", ("clusterAgent", "kubeStateMetrics")),
    ("coroot-prometheus", ("prometheus",)),
    ("clickhouse", ("clickhouse",)),
    ("clickhouse", ("clickhouse", "keeper")),
)


class StandImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a stand runs."""

    name: str
    part: str  #: what runs it
    digest: str = ""  #: `sha256:…`; empty: it isn't known
    mirror: str = ""  #: its name in the registry that was asked for


def stand_images(services: ServiceConfiguration, pins: Pins, *, registry: str = "") -> tuple[StandImage, ...]:
    """Return the images of a stand that runs a service configuration, sorted by part and name."""
    own = {image.service for image in pins.images.values()}
    names = [
        (image.part, name)
        for image in pins.images.values()
        if image.part in _STAND
        for name in _names(image, services.services, own)
    ]
    return tuple(
        StandImage(
            name=name.partition("@")[0],
            part=part,
            digest=name.partition("@")[2],
            mirror=mirrored(name, registry) if registry else "",
        )
        for part, name in sorted(set(names), key=lambda item: (_STAND.index(item[0]), item[1]))
    )


def _names(image: Image, services: Iterable[str], own: Iterable[str]) -> Iterable[str]:
    if image.service == "*":
        yield from (f"{image.name}-{service}" for service in services if service not in own)
    elif not image.service or image.service in services:
        yield image.name


def mirrored(name: str, registry: str) -> str:
    """Return the name under which an image lies in a registry: its own without its host."""
    host, _, rest = name.partition("/")
    path = rest if rest and ("." in host or ":" in host or host == "localhost") else name
    return f"{registry.rstrip('/')}/{path}"


def digests_of(pods: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the digest of each image that pods run, by the name that their specification has."""
    found = {}
    for pod in pods:
        spec, status = pod["spec"], pod.get("status") or {}
        wanted = {item["name"]: item["image"] for item in [*(spec.get("initContainers") or ()), *spec["containers"]]}
        for item in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
            digest = str(item.get("imageID", "")).rpartition("@")[2]
            if digest.startswith("sha256:") and item["name"] in wanted:
                found[wanted[item["name"]]] = digest
    return found


def mirrored_pins(pins: Pins, registry: str) -> Pins:
    """Return pins whose images come from a registry; empty: from where they are."""
    if not registry:
        return pins
    images = {
        key: msgspec.structs.replace(image, name=mirrored(image.name, registry)) for key, image in pins.images.items()
    }
    return msgspec.structs.replace(pins, images=images)


def image_values(chart: str, pins: Pins, *, pull_secret: str = "") -> Values:
    """Return values with which a chart takes its images from where the pins say, with a pull secret (empty: none is needed).

    What our own values name by its full name isn't among them: they are written with the same pins.
    """
    secrets = [{"name": pull_secret}] if pull_secret else []

    def repository(image: str) -> str:
        return pins.image(image).rpartition(":")[0]

    if chart == "chaos-mesh":
        registry = repository("chaos-mesh").removesuffix("/chaos-mesh/chaos-mesh")
        pause = {"podChaos": {"podFailure": {"pauseImage": pins.image("pause")}}}
        return {"images": {"registry": registry}, "controllerManager": pause, "imagePullSecrets": secrets}
    if chart == "coroot-operator":
        return {"image": {"repository": repository("coroot-operator")}, "imagePullSecrets": secrets}
    if chart == "coroot-ce":
        coroot: Values = {}
        for image, place in _COROOT_IMAGES:
            _put(coroot, (*place, "image"), {"name": pins.image(image), "pullSecrets": secrets})
        return coroot
    jaeger, metrics = repository("jaeger"), repository("kube-state-metrics")
    metrics_host, _, metrics_path = metrics.partition("/")
    return {
        "default": {"image": {"repository": repository("demo"), "pullSecrets": secrets}},
        "components": {
            service: {"imageOverride": {"repository": repository(service)}}
            for service in ("flagd", "postgresql", "valkey-cart")
        },
        "opentelemetry-collector": {"image": {"repository": repository("collector")}, "imagePullSecrets": secrets},
        "jaeger": {"jaeger": {"image": {"repository": jaeger, "pullSecrets": secrets}}},
        "prometheus": {
            "imagePullSecrets": secrets,
            "server": {"image": {"repository": repository("prometheus")}},
            "kube-state-metrics": {
                "image": {"registry": metrics_host, "repository": metrics_path},
                "imagePullSecrets": secrets,
            },
        },
    }


def _put(document: Values, place: tuple[str, ...], value: Values) -> None:
    for key in place[:-1]:
        document = document.setdefault(key, {})
    document[place[-1]] = value
