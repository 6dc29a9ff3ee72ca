"""A real API server lets the accounts of `deploy/` do what the catalogue needs, and refuses everything else.

By impersonation: the admin asks as each account. Reviews are asked for of every verb on every resource that the server serves; calls of the
catalogue are made as they are, on things that aren't there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from otel_control_gym.actuators import ENTRIES
from otel_control_gym.actuators.kubernetes_client import KubernetesClient, open_kubernetes
from otel_control_gym.actuators.permissions import Permission, acting, safekeeping
from otel_control_gym.actuators.transport import CallError, Refused
from otel_control_gym.engine.deployment import operator_permissions, policy_permissions
from otel_control_gym.stands.cluster.contexts import endpoints_of
from otel_control_gym.stands.cluster.parts import NAMESPACE, SYSTEM

pytestmark = pytest.mark.timeout(600)

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
EVERYBODY = (
    "selfsubjectaccessreviews",
    "selfsubjectreviews",
    "selfsubjectrulesreviews",
)  #: may be created by whoever is known
GRANTED = {
    ("ocg-operator", NAMESPACE): operator_permissions(),
    ("ocg-operator", SYSTEM): safekeeping(),
    ("ocg-janitor", NAMESPACE): acting(),
    ("ocg-janitor", SYSTEM): safekeeping(),
    ("ocg-policy", NAMESPACE): policy_permissions(),
    ("ocg-policy", SYSTEM): (),
    ("ocg-policy", "kube-system"): (),
    ("ocg-operator", "kube-system"): (),
    ("ocg-operator", "default"): (),
    ("ocg-operator", ""): (Permission("", "nodes", "list"),),
    ("ocg-janitor", ""): (),
    ("ocg-policy", ""): (),
}
"""(account, namespace; empty: what lies in none) -> what it is granted."""


@asynccontextmanager
async def acting_as(account: str, kubeconfig: Path, folder: Path) -> AsyncIterator[KubernetesClient]:
    """Open a client that asks as a service account."""
    document = yaml.safe_load(await anyio.Path(kubeconfig).read_text())
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"]
    document["users"][0]["user"] |= {"as": f"system:serviceaccount:{SYSTEM}:{account}", "as-groups": groups}
    path = folder / account
    await anyio.Path(path).write_text(yaml.safe_dump(document))
    with endpoints_of(path) as endpoints:
        async with open_kubernetes(endpoints) as kubernetes:
            yield kubernetes


async def resources(admin: KubernetesClient, *, namespaced: bool) -> list[tuple[str, str]]:
    """Return group and name of every resource that the server serves, and of those that it would on a full stand."""
    groups = await admin.call("GET", "apis", dict)
    places = ["api/v1"] + [f"apis/{group['preferredVersion']['groupVersion']}" for group in groups["groups"]]
    found = {("gateway.networking.k8s.io", "httproutes")} if namespaced else set()
    for place in places:
        group = place.split("/")[1] if place.startswith("apis/") else ""
        listing = await admin.call("GET", place, dict)
        found |= {(group, each["name"]) for each in listing["resources"] if each["namespaced"] is namespaced}
    return sorted(found)


async def allowed(
    admin: KubernetesClient, account: str, namespace: str, asked: Iterable[Permission]
) -> list[Permission]:
    """Return what a server would let an account do, of what is asked; one review for each name."""
    found: list[Permission] = []
    limit = anyio.CapacityLimiter(8)

    async def review(permission: Permission, name: str) -> None:
        resource, _, subresource = permission.resource.partition("/")
        attributes = {
            "namespace": namespace,
            "group": permission.group,
            "resource": resource,
            "subresource": subresource,
            "verb": permission.verb,
            "name": name,
        }
        spec = {
            "user": f"system:serviceaccount:{SYSTEM}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"],
            "resourceAttributes": attributes,
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        async with limit:
            answer = await admin.call("POST", "apis/authorization.k8s.io/v1/subjectaccessreviews", dict, body=body)
        if answer["status"]["allowed"]:
            found.append(Permission(permission.group, permission.resource, permission.verb, (name,) if name else ()))

    async with anyio.create_task_group() as tasks:
        for permission in asked:
            for name in permission.names or ("",):
                tasks.start_soon(review, permission, name)
    return sorted(found)


def by_name(permissions: Iterable[Permission]) -> list[Permission]:
    """Return permissions with one name each, or none."""
    return sorted(
        dict.fromkeys(
            Permission(each.group, each.resource, each.verb, (name,) if name else ())
            for each in permissions
            for name in each.names or ("",)
        )
    )


@pytest.mark.parametrize(
    ("account", "namespace"), GRANTED, ids=[f"{account} in {namespace or 'none'}" for account, namespace in GRANTED]
)
async def test_an_account_may_do_what_it_needs_and_nothing_else(
    account: str, namespace: str, admin: KubernetesClient
) -> None:
    granted = by_name(GRANTED[account, namespace])
    everything = [
        Permission(group, name, verb)
        for group, name in await resources(admin, namespaced=bool(namespace))
        for verb in VERBS
        if name not in EVERYBODY
    ]
    assert len(everything) > 200
    asked = dict.fromkeys([*granted, *everything])
    assert await allowed(admin, account, namespace, asked) == granted


@pytest.mark.parametrize("account", ["ocg-operator", "ocg-janitor"])
async def test_every_call_of_the_catalogue_is_let_through(account: str, kubeconfig: Path, tmp_path: Path) -> None:
    """Calls as they are made, on things that aren't there: 404 means that the server would have done it."""
    async with acting_as(account, kubeconfig, tmp_path) as kubernetes:
        outcomes = {call: await outcome(kubernetes, *call) for call in sorted(calls())}
    assert outcomes
    assert {call: status for call, status in outcomes.items() if status == 403} == {}


async def test_a_policy_s_account_is_let_through_for_actions_and_not_for_faults(
    kubeconfig: Path, tmp_path: Path
) -> None:
    actions = calls("action")
    faults = {call for call in calls("intervention") - actions if "chaos-mesh.org" in call[1]}
    assert faults
    async with acting_as("ocg-policy", kubeconfig, tmp_path) as kubernetes:
        refused = {call for call in sorted(actions | faults) if await outcome(kubernetes, *call) == 403}
    assert refused - faults == set()
    assert refused == faults


def calls(action_class: str = "") -> set[tuple[str, str]]:
    """Return method and path of each call that entries name, on things that aren't there."""
    found = set()
    for entry in ENTRIES:
        if entry.action_class not in (action_class or entry.action_class,):
            continue
        for call in entry.api_calls:
            methods, _, path = call.partition(" api")
            if not path:
                continue
            path = f"api{path.split()[0]}"
            while "{" in path:
                before, _, rest = path.partition("{")
                name, _, after = rest.partition("}")
                path = f"{before}{NAMESPACE if name == 'namespace' else 'nothing'}{after}"
            found |= {(method, path) for method in methods.split(" or ")}
    return found


async def outcome(kubernetes: KubernetesClient, method: str, path: str) -> int:
    """Return the status of an answer to a call that is only tried."""
    body: Any = {} if method in ("POST", "PUT", "PATCH", "DELETE") else None
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    query = {} if method == "GET" else {"dryRun": "All"}
    try:
        await kubernetes.call(method, path, dict, body=body, content_type=content_type, query=query)
    except Refused as refusal:
        return refusal.status
    except CallError:
        return 0
    return 200
