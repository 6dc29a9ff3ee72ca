"""What a write has to pass before it is stored, for every kind that can be written: rules of metadata, then those of the kind.

In: bodies of the right shape (`schemas`), and what they were before. Out: bodies with defaults filled in, or an `ApiError`.

Refused is also what the simulated machines couldn't follow: a Deployment whose pods run no service of the application, another spec of
one of its Services. On a real cluster an admission policy would say so, with the same 403. A Deployment of another name that runs
one of the services (a canary) is as good as the service's own.
"""

from __future__ import annotations

import re

from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.stands.twin.admission import (
    admit_deployment,
    admit_deployment_update,
    admit_pod_update,
)
from otel_control_gym.stands.twin.api_errors import forbidden, invalid
from otel_control_gym.stands.twin.autoscaler_admission import admit_autoscaler
from otel_control_gym.stands.twin.chaos_admission import admit_chaos, admit_chaos_update
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.manifests import NAME_LABEL
from otel_control_gym.stands.twin.metadata_admission import admit_metadata
from otel_control_gym.stands.twin.objects import (
    CONFIG_MAP,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    LEASE,
    NAMESPACE,
    POD,
    REPLICA_SET,
    SERVICE,
    Kind,
    Object,
)
from otel_control_gym.stands.twin.route_admission import admit_route, admit_route_update
from otel_control_gym.stands.twin.service_admission import (
    admit_service,
    admit_service_deletion,
    admit_service_update,
)

__all__ = ("admit_change", "admit_deletion", "admit_new")

_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_CONFIG_MAP_BYTES = 2**20
_POLICY = "the twin's machines"


def admit_new(context: Context, kind: Kind, item: Object) -> Object:
    """Return a new object with defaults, checked.

    Raises: ApiError: something about it breaks a rule.
    """
    admit_metadata(kind, item, None)
    if kind.status:
        item = {key: value for key, value in item.items() if key != "status"}
    if kind is HTTP_ROUTE:
        item = admit_route(item)
    elif not kind.built_in:
        item = admit_chaos(kind, item)
    elif kind is DEPLOYMENT:
        item = admit_deployment(item)
        _check_workload(context.services, item)
    elif kind is HORIZONTAL_POD_AUTOSCALER:
        item = admit_autoscaler(item)
    elif kind is SERVICE:
        taken = {one["spec"]["clusterIP"] for one in context.store.objects(SERVICE)}
        item = admit_service(context.services, item, taken)
    elif kind is NAMESPACE:
        item = _admit_namespace(item)
    elif kind is CONFIG_MAP:
        _check_config_map(item)
    elif kind is LEASE:
        _check_lease(item)
    return item


def admit_change(context: Context, kind: Kind, before: Object, item: Object) -> Object:
    """Return a changed object with defaults, checked.

    Raises: ApiError: something about it breaks a rule, or an immutable field changed.
    """
    admit_metadata(kind, item, before)
    if kind is HTTP_ROUTE:
        item = admit_route_update(before, item)
    elif not kind.built_in:
        item = admit_chaos_update(kind, before, item)
    elif kind is DEPLOYMENT:
        item = admit_deployment_update(before, item)
        _check_workload(context.services, item)
    elif kind is HORIZONTAL_POD_AUTOSCALER:
        item = admit_autoscaler(item)
    elif kind is POD:
        item = admit_pod_update(before, item)
        _check_pod(before, item)
    elif kind is REPLICA_SET:
        item = _admit_replica_set(before, item)
    elif kind is SERVICE:
        item = admit_service_update(context.services, before, item)
    elif kind is NAMESPACE:
        _check_spec_unchanged(kind, before, item)
    elif kind is CONFIG_MAP:
        _check_config_map(item)
        _check_immutable(before, item)
    elif kind is LEASE:
        _check_lease(item)
    return item


def admit_deletion(context: Context, kind: Kind, item: Object) -> None:
    """Refuse a deletion that the simulated machines couldn't follow.

    Raises: ApiError: it is one.
    """
    if kind is SERVICE:
        admit_service_deletion(context.services, item)


def _check_workload(services: ServiceConfiguration, item: Object) -> None:
    """Refuse pods that run no service of the application; which one they run is told by the demo's label."""
    name, template = item["metadata"]["name"], item["spec"]["template"]
    service = template["metadata"].get("labels", {}).get(NAME_LABEL)
    why = ""
    if service not in services.services:
        why = f'{_POLICY} run the services of the application only: label {NAME_LABEL} is "{service or ""}"'
    else:
        image = template["spec"]["containers"][0]["image"]
        other = _service_of_image(services, image)
        if other is not None and other != service:
            why = f'image "{image}" is that of service {other}, label {NAME_LABEL} says {service}: {_POLICY} run one of them'
    if why:
        raise forbidden(DEPLOYMENT, name, f'{DEPLOYMENT.resource} "{name}" is forbidden: {why}')


def _check_pod(before: Object, item: Object) -> None:
    """Refuse to make another service of a pod, and to hold it: its machine knows neither."""
    name, why = before["metadata"]["name"], ""
    labels = [entry["metadata"].get("labels", {}).get(NAME_LABEL) for entry in (before, item)]
    if labels[0] != labels[1]:
        why = f"{_POLICY} tell by label {NAME_LABEL} which service a pod runs; it stays"
    elif item["metadata"].get("finalizers"):
        why = f"{_POLICY} wait for no finalizers of pods"
    if why:
        raise forbidden(POD, name, f'{POD.resource} "{name}" is forbidden: {why}')


def _service_of_image(services: ServiceConfiguration, image: str) -> str | None:
    """Return the service whose image of the demo this is (tag `<version>-<service>`), None if it is none of them."""
    tag = image.rpartition(":")[2]
    named = [service for service in services.services if tag.endswith(f"-{service}")]
    return max(named, key=len, default=None)


def _check_spec_unchanged(kind: Kind, before: Object, item: Object) -> None:
    if item.get("spec") != before.get("spec"):
        name = before["metadata"]["name"]
        why = f"{_POLICY} don't model another spec of a {kind.kind}; labels and annotations may change"
        raise forbidden(kind, name, f'{kind.resource} "{name}" is forbidden: {why}')


def _admit_replica_set(before: Object, item: Object) -> Object:
    name, replicas = before["metadata"]["name"], item.get("spec", {}).get("replicas", 1)
    if replicas < 0:
        problem = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise invalid(REPLICA_SET, name, "spec.replicas", problem)
    spec = item.get("spec", {}) | {"replicas": replicas}
    for key in ("selector", "template"):
        if spec.get(key) != before["spec"][key]:
            raise invalid(REPLICA_SET, name, f"spec.{key}", "Invalid value: field is immutable")
    item = item | {"spec": spec}
    if spec != before["spec"]:
        item["metadata"]["generation"] = before["metadata"]["generation"] + 1
    return item


def _admit_namespace(item: Object) -> Object:
    """Return a new namespace as the API server makes it: active at once, with a label of its name."""
    metadata = item["metadata"]
    labels = {**metadata.get("labels", {}), "kubernetes.io/metadata.name": metadata["name"]}
    spec = {**item.get("spec", {}), "finalizers": ["kubernetes"]}
    return {**item, "metadata": {**metadata, "labels": labels}, "spec": spec, "status": {"phase": "Active"}}


def _check_config_map(item: Object) -> None:
    name, size = item["metadata"]["name"], 0
    for part in ("data", "binaryData"):
        for key, value in item.get(part, {}).items():
            size += len(value.encode())
            if len(key) > 253 or _DATA_KEY.fullmatch(key) is None:
                problem = f"Invalid value: \"{key}\": a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                raise invalid(CONFIG_MAP, name, f"{part}[{key}]", problem)
    if size > _CONFIG_MAP_BYTES:
        problem = f"Too long: may not be more than {_CONFIG_MAP_BYTES} bytes"
        raise invalid(CONFIG_MAP, name, "", problem, reason="FieldValueTooLong")


def _check_immutable(before: Object, item: Object) -> None:
    if not before.get("immutable"):
        return
    for part in ("immutable", "data", "binaryData"):
        if item.get(part) != before.get(part):
            problem = "Forbidden: field is immutable when `immutable` is set"
            name = before["metadata"]["name"]
            raise invalid(CONFIG_MAP, name, part, problem, reason="FieldValueForbidden")


def _check_lease(item: Object) -> None:
    for key in ("leaseDurationSeconds", "leaseTransitions"):
        value, least = item.get("spec", {}).get(key), int(key == "leaseDurationSeconds")
        if value is not None and value < least:
            problem = f"Invalid value: {value}: must be greater than {'' if least else 'or equal to '}0"
            raise invalid(LEASE, item["metadata"]["name"], f"spec.{key}", problem)
