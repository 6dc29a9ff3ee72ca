"""Pod templates: when two are the same, and the hash that names the replica set of one.

In: Deployments and replica sets. Out: equality, a hash in the alphabet that real ones use, the names of the reserved annotations.
"""

from __future__ import annotations

import re

import msgspec

from otel_control_gym.stands.twin.objects import Object

__all__ = (
    "DESIRED",
    "HASH_LABEL",
    "HISTORY",
    "MAXIMUM",
    "RESERVED",
    "REVISION",
    "counted",
    "same_template",
    "template_hash",
)

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
RESERVED = frozenset(
    (
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.rollback-to",
        REVISION,
        HISTORY,
        DESIRED,
        MAXIMUM,
    )
)  #: annotations of a Deployment that its replica sets don't inherit

_DIGITS = str.maketrans("0123456789", "456789bcdf")  # Kubernetes' SafeEncodeString, as far as decimal digits go


def counted(item: Object, annotation: str, default: int = 0) -> int:
    """Return the number in an annotation; `default` if it isn't there, or isn't one: anybody may write annotations."""
    text = item["metadata"].get("annotations", {}).get(annotation, "")
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else default


def same_template(replica_set: Object, deployment: Object) -> bool:
    """Return whether a replica set was made for the Deployment's present template."""
    theirs, ours = replica_set["spec"]["template"], deployment["spec"]["template"]
    labels = {key: value for key, value in theirs["metadata"].get("labels", {}).items() if key != HASH_LABEL}
    return bool(
        theirs["spec"] == ours["spec"]
        and labels == ours["metadata"].get("labels", {})
        and theirs["metadata"].get("annotations", {}) == ours["metadata"].get("annotations", {})
    )


def template_hash(template: Object, collisions: int) -> str:
    """Return the FNV-1a hash of a template (and the number of collisions so far), in letters of generated names."""
    state = 0x811C9DC5
    for byte in msgspec.json.encode([template, collisions], order="sorted"):
        state = (state ^ byte) * 0x01000193 & 0xFFFFFFFF
    return str(state).translate(_DIGITS)
