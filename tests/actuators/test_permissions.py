"""What a role grants follows from the calls that the catalogue's entries make, and from nothing else."""

from __future__ import annotations

import pytest

from otel_control_gym.actuators import ENTRIES
from otel_control_gym.actuators.permissions import (
    CHAOS_GROUP,
    Permission,
    acting,
    looking,
    needed,
    proxying,
    rules,
)

DEPLOYMENTS = "apis/apps/v1/namespaces/otel-demo/deployments"


@pytest.mark.parametrize(
    ("method", "path", "query", "permission"),
    [
        ("GET", DEPLOYMENTS, {}, Permission("apps", "deployments", "list")),
        ("GET", DEPLOYMENTS, {"watch": "True"}, Permission("apps", "deployments", "watch")),
        ("GET", f"{DEPLOYMENTS}/cart", {}, Permission("apps", "deployments", "get")),
        ("PATCH", f"{DEPLOYMENTS}/cart/scale", {}, Permission("apps", "deployments/scale", "patch")),
        ("POST", "api/v1/namespaces/otel-demo/configmaps", {}, Permission("", "configmaps", "create")),
        ("DELETE", "api/v1/namespaces/otel-demo/pods/cart-1", {}, Permission("", "pods", "delete")),
        ("GET", "api/v1/nodes", {}, Permission("", "nodes", "list")),
        ("GET", "api/v1/nodes/one", {}, Permission("", "nodes", "get")),
    ],
)
def test_a_call_needs_what_the_api_server_asks_for(
    method: str, path: str, query: dict[str, str], permission: Permission
) -> None:
    assert needed(method, path, query) == permission


def test_a_path_of_no_resource_is_refused() -> None:
    with pytest.raises(ValueError, match="is no path of a resource"):
        needed("GET", "version")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.type)
def test_every_call_of_an_entry_can_be_read(entry: object) -> None:
    acting([entry])  # type: ignore[list-item]


def test_what_can_be_made_can_be_taken_back_and_what_is_changed_can_be_read() -> None:
    granted = dict.fromkeys(acting())
    for permission in granted:
        resource = permission.resource.partition("/")[0]
        if permission.verb == "create":
            assert Permission(permission.group, resource, "delete") in granted
        if permission.verb in ("create", "patch"):
            assert Permission(permission.group, resource, "get") in granted


def test_actions_alone_need_nothing_of_faults() -> None:
    permissions = acting(entry for entry in ENTRIES if entry.action_class == "action")
    assert CHAOS_GROUP not in {permission.group for permission in permissions}
    assert CHAOS_GROUP in {permission.group for permission in acting()}


def test_nothing_reaches_secrets_or_into_containers() -> None:
    forbidden = ("secrets", "pods/exec", "pods/attach", "pods/portforward", "serviceaccounts/token", "roles")
    assert not [permission for permission in acting() if permission.resource in forbidden or "*" in str(permission)]


def test_rules_grant_the_permissions_and_no_others() -> None:
    wanted = {*acting(), *looking(["api/v1/namespaces/{}/events"]), *proxying(["flagd:4000", "prometheus:9090"])}
    granted = {
        Permission(group, resource, verb, tuple(rule.get("resourceNames", ())))
        for rule in rules(wanted)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == wanted
