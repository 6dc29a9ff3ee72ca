"""What a write has to pass before it is stored, for every kind that can be written: rules of metadata, then those of the kind.

In: bodies of the right shape (`schemas`), and what they were before. Out: bodies with defaults filled in, or an `ApiError`.

Refused is also what the simulated machines couldn't follow: a Deployment whose pods run no service of the application, another spec of
a Service. On a real cluster an admission policy would say so, with the same 403.
"""

from __future__ import annotations

import re

from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.stands.twin.admission import (
    admit_deployment,
    admit_deployment_update,
    admit_name,
    admit_pod_update,
)
from otel_control_gym.stands.twin.api_errors import forbidden, invalid
from otel_control_gym.stands.twin.chaos_admission import admit_chaos, admit_chaos_update
from otel_control_gym.stands.twin.manifests import NAME_LABEL
from otel_control_gym.stands.twin.objects import (
    CONFIG_MAP,
    DEPLOYMENT,
    LEASE,
    NAMESPACE,
    POD,
    REPLICA_SET,
    SERVICE,
    Kind,
    Object,
)

__all__ = ("admit_change", "admit_new")

_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_CONFIG_MAP_BYTES = 2**20
_POLICY = "the twin's machines"


def admit_new(services: ServiceConfiguration, kind: Kind, item: Object) -> Object:
    """Return a new object with defaults, checked.

    Raises: ApiError: something about it breaks a rule.
    """
    admit_name(kind, item["metadata"].get("name"))
    _check_labels(kind, item)
    if not kind.built_in:
        return admit_chaos(kind, item)
    item = {key: value for key, value in item.items() if key != "status"}
    if kind is DEPLOYMENT:
        item = admit_deployment(item)
        _check_workload(services, item)
    elif kind is CONFIG_MAP:
        _check_config_map(item)
    elif kind is LEASE:
        _check_lease(item)
    return item


def admit_change(services: ServiceConfiguration, kind: Kind, before: Object, item: Object) -> Object:
    """Return a changed object with defaults, checked.

    Raises: ApiError: something about it breaks a rule, or an immutable field changed.
    """
    _check_labels(kind, item)
    if not kind.built_in:
        return admit_chaos_update(kind, before, item)
    if kind is DEPLOYMENT:
        item = admit_deployment_update(before, item)
        _check_workload(services, item)
    elif kind is POD:
        item = admit_pod_update(before, item)
    elif kind is REPLICA_SET:
        item = _admit_replica_set(before, item)
    elif kind in (SERVICE, NAMESPACE):
        _check_spec_unchanged(kind, before, item)
    elif kind is CONFIG_MAP:
        _check_config_map(item)
        _check_immutable(before, item)
    elif kind is LEASE:
        _check_lease(item)
    return item


def _check_labels(kind: Kind, item: Object) -> None:
    for value in (item["metadata"].get("labels") or {}).values():
        if len(value) > 63 or _LABEL_VALUE.fullmatch(value) is None:
            problem = (
                f'Invalid value: "{value}": a valid label must be an empty string or consist of at most 63 alphanumeric '
                "characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            )
            raise invalid(kind, str(item["metadata"].get("name", "")), "metadata.labels", problem)


def _check_workload(services: ServiceConfiguration, item: Object) -> None:
    service = item["spec"]["template"]["metadata"].get("labels", {}).get(NAME_LABEL)
    if service not in services.services:
        name = item["metadata"]["name"]
        why = f'{_POLICY} run the services of the application only: label {NAME_LABEL} is "{service or ""}"'
        raise forbidden(DEPLOYMENT, name, f'{DEPLOYMENT.resource} "{name}" is forbidden: {why}')


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
