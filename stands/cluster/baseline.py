"""What a stand is when nothing was done to it: replicas and pod templates of its Deployments, its Services, its flags.

In: objects as the API server tells them. Out: a `Baseline`, kept in a ConfigMap on the stand, and the calls that bring objects back to it.

Nobody else can be asked: Helm keeps its release in a Secret, which the gym's account may not read. So the first reset of a stand takes what
it finds, provided that everything is available, and later ones restore it. An object that was made anew since (another UID) has no
baseline any more. Templates are compared as the server stored them, with every default, but for the annotation that a rolling restart
leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from otel_control_gym.stands.cluster.band import Band

__all__ = ("Baseline", "JsonPatch", "Kept", "kept_deployment", "kept_service", "restoring")

JsonPatch = list[dict[str, Any]]
_RESTARTED = "kubectl.kubernetes.io/restartedAt"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of one object."""

    uid: str
    spec: dict[str, Any]  #: the parts of its `spec` that actions change


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a stand."""

    deployments: dict[str, Kept] = {}
    services: dict[str, Kept] = {}
    flags: dict[str, str] = {}  #: flag -> default variant
    bands: dict[str, Band] = {}  #: load (`band.load_of`) -> error rate and latency under it; older ones have none


def kept_deployment(item: Mapping[str, Any]) -> Kept:
    """Return what is wanted of a Deployment: its replicas and its template."""
    spec = item["spec"]
    template = {**spec["template"], "metadata": dict(spec["template"].get("metadata") or {})}
    annotations = dict(template["metadata"].get("annotations") or {})
    annotations.pop(_RESTARTED, None)
    template["metadata"].pop("annotations", None)
    if annotations:
        template["metadata"]["annotations"] = annotations
    return Kept(uid=item["metadata"]["uid"], spec={"replicas": spec.get("replicas", 1), "template": template})


def kept_service(item: Mapping[str, Any]) -> Kept:
    """Return what is wanted of a Service: whom it selects, and its ports."""
    spec = item["spec"]
    return Kept(uid=item["metadata"]["uid"], spec={key: spec[key] for key in ("selector", "ports") if key in spec})


def restoring(wanted: Kept, present: Kept, item: Mapping[str, Any]) -> JsonPatch:
    """Return the JSON patch that brings an object back to what is wanted of it; empty: it is so."""
    patch: JsonPatch = [
        {"op": "add", "path": f"/spec/{key}", "value": value}  # `add` replaces what is there
        for key, value in wanted.spec.items()
        if present.spec.get(key) != value
    ]
    if item["spec"].get("paused"):
        patch.append({"op": "remove", "path": "/spec/paused"})
    return patch
