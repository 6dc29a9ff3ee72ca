"""Back to an earlier revision, exactly as `kubectl rollout undo` does it.

In: a revision, or none for the one before the present. Out: one JSON patch of the Deployment, and what shows that the old template rules.

As kubectl: only ReplicaSets that the Deployment owns count; the template is the ReplicaSet's without `pod-template-hash`; *all*
annotations are replaced by the ReplicaSet's, but the reserved ones, which stay the Deployment's. Replicas, strategy and ConfigMaps stay as
they are. Beyond kubectl: the patch tests the resourceVersion, so that a change in between isn't overwritten but met with a conflict.
"""

from __future__ import annotations

from typing import Any

from otel_control_gym.actuators.deployments import DeploymentClient
from otel_control_gym.actuators.kubernetes_client import JSON_PATCH
from otel_control_gym.actuators.objects import Deployment, Items
from otel_control_gym.actuators.postchecks import check_template
from otel_control_gym.actuators.prechecks import refuse_rollout, refuse_untouchable
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.transport import Busy, Refused
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("RollbackProcedure", "template_of")

_REVISION = "deployment.kubernetes.io/revision"
_RESERVED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    _REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.rollback-to",
)
_HASH = "pod-template-hash"
_NOT_FOUND = 404
_CONFLICT = 409
_UNPROCESSABLE = 422  #: what a failed `test` of a JSON patch is answered with

_Object = dict[str, Any]


class RollbackProcedure:
    """Undo a rollout; there is no way back but another one."""

    begun = False

    def __init__(self, client: DeploymentClient, service: Service, revision: int | None) -> None:
        self.fields = (f"rollout:{client.name}",)
        self._client = client
        self._service = service
        self._revision = revision
        self._template: _Object = {}
        self._annotations: _Object = {}
        self._seen = 0  # generation that the precheck saw
        self._generation = 0

    async def precheck(self) -> Precheck:
        """Choose the revision; refuse one that isn't there, or is the present one."""
        try:
            raw = await self._client.kubernetes.call("GET", self._client.path, dict)
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return Precheck(rejection=f"Deployment {self._client.name!r} doesn't exist")
            raise
        deployment = await self._client.read()
        revisions = await self._revisions(deployment)
        evidence: dict[str, Any] = {"revisions": sorted(revisions)}
        rejection = refuse_untouchable(self._client.name, self._service) or refuse_rollout(deployment)
        wanted = self._revision if self._revision is not None else sorted(revisions)[-2] if len(revisions) > 1 else 0
        if not rejection and wanted not in revisions:
            what = f"revision {wanted}" if wanted else "earlier revision"
            rejection = f"{self._client.name} has no {what}"
        if rejection:
            return Precheck(rejection=rejection, evidence=evidence)
        chosen = revisions[wanted]
        self._template = template_of(chosen)
        if self._template == template_of(raw):
            return Precheck(rejection=f"revision {wanted} has the present template", evidence=evidence)
        own, theirs = raw["metadata"].get("annotations", {}), chosen["metadata"].get("annotations", {})
        self._annotations = {key: value for key, value in theirs.items() if key not in _RESERVED}
        self._annotations |= {key: value for key, value in own.items() if key in _RESERVED}
        self._seen = deployment.metadata.generation
        return Precheck(evidence=evidence | {"revision": wanted, "replica_set": chosen["metadata"]["name"]})

    async def _revisions(self, deployment: Deployment) -> dict[int, _Object]:
        """Return the ReplicaSets that the Deployment owns by revision."""
        path = f"apis/apps/v1/namespaces/{self._client.namespace}/replicasets"
        label = {"labelSelector": f"opentelemetry.io/name={self._client.name}"}
        found = (await self._client.kubernetes.call("GET", path, Items[_Object], query=label)).items
        owned = {}
        for item in found:
            owners = item["metadata"].get("ownerReferences", ())
            revision = str(item["metadata"].get("annotations", {}).get(_REVISION, ""))
            if revision.isdigit() and any(owner["uid"] == deployment.metadata.uid for owner in owners):
                owned[int(revision)] = item
        return owned

    def inverse(self) -> tuple[InverseCall, ...]:
        """There is no way back but another rollback."""
        return ()

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Patch template and annotations of the Deployment that the precheck saw.

        Status is written all the time, so the version is read anew and the generation compared.
        """
        present = await self._client.read()
        if present.metadata.generation not in (self._seen, self._generation):
            raise Refused(f"Deployment {self._client.name!r} was changed after the precheck", _CONFLICT)
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": present.metadata.resource_version},
            {"op": "replace", "path": "/spec/template", "value": self._template},
            {"op": "replace", "path": "/metadata/annotations", "value": self._annotations},
        ]
        call = InverseCall(
            api="kubernetes", method="PATCH", path=self._client.path, content_type=JSON_PATCH, body=patch
        )
        try:
            after = await self._client.kubernetes.write(call, Deployment)
        except Refused as refusal:
            if refusal.status == _UNPROCESSABLE and (await self._client.read()).metadata != present.metadata:
                raise Busy(str(refusal), _CONFLICT, None) from refusal
            raise
        self._generation = after.metadata.generation
        return (after.metadata.touched("Deployment"),)

    async def postcheck(self) -> Check:
        """The ReplicaSet with the revision's template has taken over."""
        raw = await self._client.kubernetes.call("GET", self._client.path, dict)
        path = f"apis/apps/v1/namespaces/{self._client.namespace}/replicasets"
        label = {"labelSelector": f"opentelemetry.io/name={self._client.name}"}
        found = (await self._client.kubernetes.call("GET", path, Items[_Object], query=label)).items
        names = [item["metadata"]["name"] for item in found if template_of(item) == self._template]
        return check_template(
            await self._client.read(),
            await self._client.replica_sets(),
            await self._client.pods(),
            holds=template_of(raw) == self._template,
            replica_sets=names,
            generation=self._generation,
        )

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """A Deployment's controller sees to its pods."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Nothing to take back."""
        return ()

    async def reverted(self, _now: int, /) -> Reversal:
        """Nothing was taken back."""
        return Reversal(verified=True, evidence={})


def template_of(item: _Object) -> _Object:
    """Return the pod template of a Deployment or ReplicaSet without the hash that a ReplicaSet's has."""
    template: _Object = item["spec"]["template"]
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != _HASH}
    kept = {key: value for key, value in metadata.items() if key not in ("labels", "creationTimestamp")}
    return {**template, "metadata": {**kept, "labels": labels}}
