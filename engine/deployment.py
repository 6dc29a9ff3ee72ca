"""What of `deploy/` follows from something else: values of the demo's chart from the service configurations, roles from the catalogue.

In: the packaged service configurations, the pins, the catalogue of actions, what collectors watch. Out: files of `deploy/`, by name. `make
manifests` writes them, a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from otel_control_gym.actuators.catalogue import ENTRIES
from otel_control_gym.actuators.permissions import (
    CHAOS_GROUP,
    Permission,
    acting,
    looking,
    proxying,
    rules,
    safekeeping,
)
from otel_control_gym.collectors.kubernetes import WATCHED
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.stands.cluster.control_checks import Access
from otel_control_gym.stands.cluster.demo_values import demo_values, probe_values
from otel_control_gym.stands.cluster.locust import load_config_map
from otel_control_gym.stands.cluster.parts import CHAOS_MESH, COROOT, NAMESPACE, NAMESPACES, SYSTEM
from otel_control_gym.stands.cluster.pins import Pins, pins

__all__ = (
    "PACKAGED",
    "accesses",
    "generated",
    "informing_accesses",
    "installer_accesses",
    "operator_permissions",
    "policy_permissions",
    "values_files",
    "write",
)

PACKAGED = (
    "async-store",
    "medium-store",
    "review-store",
    "small-core",
)  #: the service configurations that are the demo's
_SERVICES = (
    "flagd:4000",
    "flagd:8016",
    "jaeger:16686",
    "load-generator:8089",
    "otel-collector:4318",  # to which a doctor sends a span
    "prometheus:9090",
)
_READ_EVERYWHERE = (Permission("", "nodes", "list"),)
_RBAC = "rbac.authorization.k8s.io"
_LABELS = {"app.kubernetes.io/part-of": "otel-control-gym"}
_SECRETIVE = (
    "configmaps",
    "events",
)  #: from which a policy could learn of faults: flagd's flags, Events of chaos objects

_VALUES_HEAD = """\
# Written by `make manifests` from configs/services/{name}.yaml and pins.yaml: change those.
# {what}
"""
_RBAC_HEAD = """\
# Written by `make manifests` from the catalogue of actions: change that.
# {what}
"""
_LOAD_HEAD = """\
# Written by `make manifests` from load-generator/*.py: change those. The demo's load generator mounts it (../helm/demo-NAME.yaml).
"""


def operator_permissions(namespace: str = NAMESPACE) -> tuple[Permission, ...]:
    """Return what the gym needs in the application's namespace, to act, to look, and to reach the stand's services."""
    return (
        *acting(),
        *looking(WATCHED),
        *proxying(_SERVICES),
        Permission("", "namespaces", "get", (namespace,)),  # whose label says that it is a stand
        Permission("metrics.k8s.io", "pods", "list"),
        Permission("", "pods/log", "get"),  # where nobody can push logs to the gym
    )


def policy_permissions() -> tuple[Permission, ...]:
    """Return what a policy may be given: to act as the catalogue does and to look, but at nothing that tells of faults."""
    actions = acting(entry for entry in ENTRIES if entry.action_class == "action")
    seen = [*actions, *looking(WATCHED)]
    reads = ("get", "list", "watch")
    return tuple(
        permission
        for permission in seen
        if permission.group != CHAOS_GROUP and not (permission.resource in _SECRETIVE and permission.verb in reads)
    )


def accesses(namespace: str, system: str = SYSTEM) -> tuple[Access, ...]:
    """Return what the gym's account needs on a cluster, one by one."""
    granted = {namespace: operator_permissions(namespace), system: safekeeping()}
    return tuple(
        _access(place, permission, name)
        for place, permissions in granted.items()
        for permission in dict.fromkeys(permissions)
        for name in permission.names or ("",)
    )


def informing_accesses() -> tuple[Access, ...]:
    """Return what the gym's account needs besides to know what an episode runs on; without it something isn't told."""
    everywhere = tuple(_access("", permission) for permission in _READ_EVERYWHERE)
    elsewhere = tuple(
        _access(place, permission, name)
        for place, permissions in _read_elsewhere().items()
        for permission in permissions
        for name in permission.names or ("",)
    )
    return (*everywhere, *elsewhere)


def installer_accesses() -> tuple[Access, ...]:
    """Return what whoever installs a stand needs besides: what has effect on the whole cluster, or on a node, and what charts make."""
    whole = (
        ("", "namespaces", "create"),
        ("", "namespaces", "patch"),  # the label of pod security, with which privileged pods are let in
        ("apiextensions.k8s.io", "customresourcedefinitions", "create"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "create"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "create"),
        (_RBAC, "clusterroles", "create"),
        (_RBAC, "clusterrolebindings", "create"),
    )
    within = (
        ("", "secrets"),
        ("", "serviceaccounts"),
        ("apps", "deployments"),
        (_RBAC, "roles"),
        (_RBAC, "rolebindings"),
    )
    particular = (
        (CHAOS_MESH, "apps", "daemonsets"),
        (COROOT, "apps", "daemonsets"),
        (COROOT, "", "persistentvolumeclaims"),
    )
    return (
        *(Access(namespace="", group=group, resource=resource, verb=verb) for group, resource, verb in whole),
        *(
            Access(namespace=place, group=group, resource=resource, verb="create")
            for place in NAMESPACES
            for group, resource in within
        ),
        *(
            Access(namespace=place, group=group, resource=resource, verb="create")
            for place, group, resource in particular
        ),
    )


def _access(place: str, permission: Permission, name: str = "") -> Access:
    return Access(
        namespace=place, group=permission.group, resource=permission.resource, verb=permission.verb, name=name
    )


def generated() -> dict[str, str]:
    """Return the text of each generated file of `deploy/`, by its path there."""
    files: dict[str, str] = {}
    for name in PACKAGED:
        services = resolve(name).public.services
        files |= values_files(services)
    files["stand/rbac.yaml"] = _RBAC_HEAD.format(
        what="The gym's account and the janitor's: what the calls of actions need, and no more. Whoever installs needs more."
    ) + _documents(_gym_roles())
    files["stand/policy-rbac.yaml"] = _RBAC_HEAD.format(
        what="An account for a policy that is to have Kubernetes itself: no faults, no flags, no Events (chaos objects have\n"
        "# some), no proxy. Annotations of pods can still tell of a fault that swaps images."
    ) + _documents(_account("ocg-policy", {NAMESPACE: policy_permissions()}))
    files["stand/load-generator.yaml"] = _LOAD_HEAD + _documents([load_config_map(NAMESPACE)])
    return files


def values_files(services: ServiceConfiguration, pinned: Pins | None = None) -> dict[str, str]:
    """Return the two files of values of an application; `pinned`: with other pins than the packaged ones, such as a mirror's.

    Raises: UsageError: the demo's chart can't install it.
    """
    name = services.name
    return {
        f"helm/demo-{name}.yaml": _VALUES_HEAD.format(name=name, what="What is installed, and how large.")
        + _documents([demo_values(services, pinned or pins())]),
        f"helm/probes-{name}.yaml": _VALUES_HEAD.format(
            name=name,
            what="Readiness probes. The chart's schema takes httpGet alone: with --skip-schema-validation only.",
        )
        + _documents([probe_values(services)]),
    }


def _gym_roles() -> list[dict[str, Any]]:
    operator = {
        NAMESPACE: operator_permissions(),
        SYSTEM: safekeeping(),
        **_read_elsewhere(),
    }
    return [
        *_account("ocg-operator", operator),
        *_everywhere("ocg-operator", _READ_EVERYWHERE),
        *_account("ocg-janitor", {NAMESPACE: acting(), SYSTEM: safekeeping()}),
    ]


def _read_elsewhere() -> dict[str, tuple[Permission, ...]]:
    """Return what the gym reads in the namespaces of what breaks and what watches the application."""
    return {CHAOS_MESH: (Permission("apps", "daemonsets", "get"),), COROOT: proxying(["coroot-coroot:8080"])}


def _everywhere(name: str, permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    """Return what grants an account permissions on what lies in no namespace."""
    metadata = {"name": name, "labels": _LABELS}
    return [
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules(permissions)},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}],
        },
    ]


def _account(name: str, granted: Mapping[str, Iterable[Permission]]) -> list[dict[str, Any]]:
    """Return an account, a role in each of some namespaces, and what binds them."""
    account = {"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": SYSTEM, "labels": _LABELS},
        }
    ]
    for namespace, permissions in granted.items():
        metadata = {"name": name, "namespace": namespace, "labels": _LABELS}
        documents += [
            {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules(permissions)},
            {
                "apiVersion": f"{_RBAC}/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
                "subjects": [account],
            },
        ]
    return documents


def _documents(documents: Iterable[Any]) -> str:
    # By way of JSON, so that what is one object in two places is written twice, not as a reference.
    plain = (msgspec.json.decode(msgspec.json.encode(document)) for document in documents)
    return "---\n".join(yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=140) for document in plain)


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as such, so that a change of one line is a change of one line."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def write(directory: Path) -> None:
    """Write the generated files below a directory."""
    for name, text in generated().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
