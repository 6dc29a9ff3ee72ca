"""The files of `deploy/stand/` ➜ objects of the API: read, addressed, adapted to a registry.

In: the packaged files. Out: documents in the order in which they can be made, and the path of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import yaml

__all__ = ("ORDER", "PART_OF", "Document", "is_ours", "path_of", "stand_documents")

Document = dict[str, Any]

PART_OF = {"app.kubernetes.io/part-of": "otel-control-gym"}  #: the label of every object that the gym makes

_PLACES = {  # kind -> group and version, plural, whether it lies in a namespace
    "Namespace": ("api/v1", "namespaces", False),
    "ServiceAccount": ("api/v1", "serviceaccounts", True),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "ClusterRole": ("apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies", True),
    "ConfigMap": ("api/v1", "configmaps", True),
    "Secret": ("api/v1", "secrets", True),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims", True),
    "Service": ("api/v1", "services", True),
    "Deployment": ("apis/apps/v1", "deployments", True),
}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  #: ten times as fast, where PyYAML was built with it

ORDER = tuple(_PLACES)  #: in which kinds are made: what others name comes first


def stand_documents(*, gym_image: str = "", pull_secret: str = "") -> tuple[Document, ...]:
    """Return the objects of a stand besides its charts', in the order in which they are made.

    Args:
        gym_image: the image of the gym's own pods; empty: the pinned one.
        pull_secret: name of the Secret with which it is pulled; empty: none is needed.
    """
    folder = resources.files("otel_control_gym.deploy") / "stand"
    texts = [item.read_bytes() for item in sorted(folder.iterdir(), key=lambda item: item.name)]
    documents = [document for text in texts for document in yaml.load_all(text, Loader=_Loader) if document]
    for document in documents:
        if document["kind"] == "Deployment":
            _adapt(document["spec"]["template"]["spec"], gym_image, pull_secret)
    return tuple(sorted(documents, key=lambda document: ORDER.index(document["kind"])))


def path_of(document: Mapping[str, Any]) -> str:
    """Return the path of an object in the API, without a leading slash."""
    base, plural, namespaced = _PLACES[document["kind"]]
    metadata = document["metadata"]
    place = f"namespaces/{metadata['namespace']}/" if namespaced else ""
    return f"{base}/{place}{plural}/{metadata['name']}"


def is_ours(item: Mapping[str, Any]) -> bool:
    """Return whether an object says that the gym has made it."""
    labels = item.get("metadata", {}).get("labels") or {}
    return all(labels.get(key) == value for key, value in PART_OF.items())


def _adapt(pod: Document, gym_image: str, pull_secret: str) -> None:
    if pull_secret:
        pod["imagePullSecrets"] = [{"name": pull_secret}]
    for container in _own(pod):
        container["image"] = gym_image or container["image"]


def _own(pod: Document) -> Iterator[Document]:
    for container in pod["containers"]:
        if container["image"].startswith("otel-control-gym:"):
            yield container
