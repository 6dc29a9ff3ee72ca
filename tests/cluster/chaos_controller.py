"""A stand-in for Chaos Mesh's controller, where there is none: conditions, records and finalizers of chaos objects; nothing is harmed.

In: chaos objects of one namespace. Out: their status; rules in PodNetworkChaos objects; pods that are deleted, restarted, or get a pause
image. Its passes are those of the real one: finalizer, desired phase, records, the finalizer's end; conditions tell of the records that
a pass found.

`custom_resources` are the definitions: Chaos Mesh's own where a folder has them (`OCG_CHAOS_MESH_CRDS`), else open ones of our own hand.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import yaml

from otel_control_gym.actuators.kubernetes_client import MERGE, KubernetesClient
from otel_control_gym.actuators.transport import CallError, Refused
from otel_control_gym.engine.clock import SECOND, rfc3339, wall_now
from tests.cluster.kubelet import Kubelet

__all__ = ("CRDS", "ChaosController", "custom_resources")

CRDS = "OCG_CHAOS_MESH_CRDS"
KINDS = {"StressChaos": "stresschaos", "NetworkChaos": "networkchaos", "PodChaos": "podchaos"}
RULES = "podnetworkchaos"
PAUSE_IMAGE = "gcr.io/google-containers/pause:latest"
LOOK_SECONDS = 0.3
_GROUP = "chaos-mesh.org"
_FINALIZER = "chaos-mesh/records"
_ONE_SHOT = ("pod-kill", "container-kill")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def custom_resources() -> list[dict[str, Any]]:
    """Return the definitions of the kinds that the gym makes, and of that in which their rules lie."""
    kinds = KINDS | {"PodNetworkChaos": RULES}
    if folder := os.environ.get(CRDS, ""):
        return [yaml.safe_load((Path(folder) / f"{_GROUP}_{plural}.yaml").read_text()) for plural in kinds.values()]
    return [_open_definition(kind, plural) for kind, plural in kinds.items()]


def _open_definition(kind: str, plural: str) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    if plural == RULES:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{_GROUP}"},
        "spec": {
            "group": _GROUP,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": plural, "listKind": f"{kind}List"},
            "versions": [version],
        },
    }


class ChaosController:
    """Leads the chaos objects of a namespace."""

    def __init__(self, kubernetes: KubernetesClient, namespace: str, kubelet: Kubelet) -> None:
        self._kubernetes, self._kubelet = kubernetes, kubelet
        self._namespace = namespace
        self._api = f"apis/{_GROUP}/v1alpha1/namespaces/{namespace}"
        self._pods = f"api/v1/namespaces/{namespace}/pods"

    async def run(self) -> None:
        """Make passes over all chaos objects until cancelled."""
        while True:
            for plural in KINDS.values():
                listing = await self._kubernetes.call("GET", f"{self._api}/{plural}", dict)
                for chaos in listing["items"]:
                    try:
                        await self._lead(plural, chaos)
                    except CallError:  # somebody has changed or removed it meanwhile: the next pass sees how
                        continue
            await anyio.sleep(LOOK_SECONDS)

    async def _lead(self, plural: str, chaos: dict[str, Any]) -> None:
        metadata, path = chaos["metadata"], f"{self._api}/{plural}/{chaos['metadata']['name']}"
        deleted = "deletionTimestamp" in metadata
        finalizers = metadata.get("finalizers", [])
        if not deleted and _FINALIZER not in finalizers:
            await self._patch(path, {"metadata": {"finalizers": [*finalizers, _FINALIZER]}})
            return
        experiment = dict(chaos.get("status", {}).get("experiment", {}))
        instances = dict(chaos.get("status", {}).get("instances") or {})
        records = [dict(each) for each in experiment.get("containerRecords") or ()]
        conditions = _conditions(records)
        if deleted and all(each["phase"] == "Not Injected" for each in records):
            await self._patch(path, {"metadata": {"finalizers": None}})
            return
        desired = "Stop" if deleted or _is_over(chaos) else "Run"
        if not records and not deleted:
            records = await self._select(chaos)
        for record in records:
            if record["phase"] != ("Injected" if desired == "Run" else "Not Injected"):
                await self._move(plural, chaos, record, instances)
        experiment |= {"desiredPhase": desired, "containerRecords": records}
        status = {"conditions": conditions, "experiment": experiment}
        if plural != "podchaos":
            gone = dict.fromkeys(set(chaos.get("status", {}).get("instances") or {}) - set(instances))
            status["instances"] = instances | gone
        if status != {key: chaos.get("status", {}).get(key) for key in status}:
            await self._patch(path, {"status": status})

    async def _patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = await self._kubernetes.call("PATCH", path, dict, body=body, content_type=MERGE)
        return found

    async def _select(self, chaos: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a record for each pod that is named and there."""
        spec, records = chaos["spec"], []
        for key, selection in {".": spec, ".Target": spec.get("target")}.items():
            names = ((selection or {}).get("selector") or {}).get("pods", {}).get(self._namespace, ())
            for name in names:
                pod = await self._pod(name)
                if pod is None:
                    continue
                place = f"{self._namespace}/{name}"
                of_containers = chaos["kind"] == "StressChaos" or spec.get("action") == "container-kill"
                containers = spec.get("containerNames") or [pod["spec"]["containers"][0]["name"]]
                ids = [f"{place}/{container}" for container in containers] if of_containers else [place]
                records += [
                    {
                        "id": identity,
                        "selectorKey": key,
                        "phase": "Not Injected",
                        "injectedCount": 0,
                        "recoveredCount": 0,
                        "events": [],
                    }
                    for identity in ids
                ]
        return records

    async def _pod(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._kubernetes.call("GET", f"{self._pods}/{name}", dict)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            return None
        return found

    async def _move(
        self, plural: str, chaos: dict[str, Any], record: dict[str, Any], instances: dict[str, Any]
    ) -> None:
        """Inject into a record's target, or recover it."""
        applies = record["phase"] == "Not Injected"
        name = record["id"].split("/")[1]
        pod = await self._pod(name)
        if pod is None and applies:
            note = {"type": "Failed", "operation": "Apply", "timestamp": _now(), "message": f'Pod "{name}" not found'}
            record["events"] = [*record["events"], note][-5:]
            return
        if plural == "stresschaos":
            self._stress(chaos, record["id"], instances, applies=applies)
        elif plural == "networkchaos":
            await self._rule(chaos, record, pod, instances, applies=applies)
        else:
            await self._harm(chaos, record["id"], pod, applies=applies)
        record["phase"] = "Injected" if applies else "Not Injected"
        record["injectedCount" if applies else "recoveredCount"] += 1
        note = {"type": "Succeeded", "operation": "Apply" if applies else "Recover", "timestamp": _now()}
        record["events"] = [*record["events"], note]

    @staticmethod
    def _stress(chaos: dict[str, Any], identity: str, instances: dict[str, Any], *, applies: bool) -> None:
        if not applies:
            instances.pop(identity, None)
            return
        kinds = {"cpu": ("uid", "startTime"), "memory": ("memoryUid", "memoryStartTime")}
        found: dict[str, str] = {}
        for kind, (uid, since) in kinds.items():
            if (chaos["spec"]["stressors"].get(kind) or {}).get("workers", 0) > 0:
                found |= {uid: f"{kind}-{chaos['metadata']['uid']}", since: _now()}
        if found:
            instances[identity] = found

    async def _rule(
        self,
        chaos: dict[str, Any],
        record: dict[str, Any],
        pod: dict[str, Any] | None,
        instances: dict[str, Any],
        *,
        applies: bool,
    ) -> None:
        """Write the rules of a chaos object into its pod's PodNetworkChaos, or take them out."""
        spec, here = chaos["spec"], record["selectorKey"] == "."
        ruled = spec["action"] == "partition" or spec["direction"] == "both" or here == (spec["direction"] == "to")
        if pod is None or not ruled:
            return
        source = f"{self._namespace}/{chaos['metadata']['name']}"
        blocks = {key: spec[key] for key in ("delay", "loss") if spec.get(key)}
        rules: dict[str, Any] = {"tcs": [], "iptables": []}
        if applies and spec["action"] == "partition":
            rules["iptables"] = [{"name": f"INPUT/{chaos['metadata']['name']}", "direction": "input", "source": source}]
        elif applies:
            rules["tcs"] = [{"type": "netem", "source": source, **blocks}]
        stored = await self._ruled(pod, source, rules)
        if stored is not None:
            status = {"observedGeneration": stored["metadata"]["generation"]}
            await self._patch(f"{self._api}/{RULES}/{stored['metadata']['name']}/status", {"status": status})
        if applies and stored is not None:
            instances[record["id"]] = stored["metadata"]["generation"]
        else:
            instances.pop(record["id"], None)

    async def _ruled(self, pod: dict[str, Any], source: str, rules: dict[str, Any]) -> dict[str, Any] | None:
        name = pod["metadata"]["name"]
        path = f"{self._api}/{RULES}"
        try:
            existing: dict[str, Any] = await self._kubernetes.call("GET", f"{path}/{name}", dict)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"]}
            body = {
                "apiVersion": f"{_GROUP}/v1alpha1",
                "kind": "PodNetworkChaos",
                "metadata": {"name": name, "ownerReferences": [owner]},
                "spec": rules,
            }
            made: dict[str, Any] = await self._kubernetes.call("POST", path, dict, body=body)
            return made
        kept = {
            key: [rule for rule in existing["spec"].get(key) or () if rule["source"] != source] + added
            for key, added in rules.items()
        }
        return await self._patch(f"{path}/{name}", {"spec": kept})

    async def _harm(self, chaos: dict[str, Any], identity: str, pod: dict[str, Any] | None, *, applies: bool) -> None:
        action = chaos["spec"]["action"]
        if pod is None:
            return
        path, uid = f"{self._pods}/{pod['metadata']['name']}", pod["metadata"]["uid"]
        if action == "pod-kill" and applies:
            body = {"gracePeriodSeconds": chaos["spec"].get("gracePeriod", 0), "preconditions": {"uid": uid}}
            await self._kubernetes.call("DELETE", path, dict, body=body)
        elif action == "container-kill" and applies:
            self._kubelet.kill(uid, identity.split("/")[2])
        elif action == "pod-failure":
            await self._exchange_images(path, pod, applies=applies)

    async def _exchange_images(self, path: str, pod: dict[str, Any], *, applies: bool) -> None:
        """Put pause images in, or the containers' own back, which the pod's annotations keep meanwhile."""
        annotations = pod["metadata"].get("annotations", {})
        operations = []
        for place, container in enumerate(pod["spec"]["containers"]):
            key = f"{container['name']}-normal-image"
            image = PAUSE_IMAGE if applies else annotations.get(key)
            if image:
                operations.append({"op": "replace", "path": f"/spec/containers/{place}/image", "value": image})
                kept = {"metadata": {"annotations": {key: container["image"] if applies else None}}}
                await self._patch(path, kept)
        if operations:
            await self._kubernetes.call(
                "PATCH", path, dict, body=operations, content_type="application/json-patch+json"
            )


def _is_over(chaos: dict[str, Any]) -> bool:
    spec = chaos["spec"]
    if spec.get("action") in _ONE_SHOT or not spec.get("duration"):
        return False
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", spec["duration"])
    length = sum(float(number) * _UNITS[unit] for number, unit in parts)
    began = datetime.fromisoformat(chaos["metadata"]["creationTimestamp"]).timestamp()
    return began + length <= wall_now() / SECOND


def _conditions(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    phases = [record["phase"] for record in records]
    facts = {
        "Selected": bool(records),
        "AllInjected": bool(records) and all(phase == "Injected" for phase in phases),
        "AllRecovered": bool(records) and all(phase == "Not Injected" for phase in phases),
        "Paused": False,
    }
    return [{"type": name, "status": str(fact), "reason": ""} for name, fact in facts.items()]


def _now() -> str:
    now = wall_now()
    return rfc3339(now - now % SECOND)
