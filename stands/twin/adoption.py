"""Adoption: a Deployment or a replica set takes over what its selector matches and nobody controls.

In: replica sets and pods without a controller (their owner was deleted and they were orphaned), owners that appear. Out: owner references.

It is why a Deployment that was deleted with `--cascade=orphan` and is made again goes on with the pods that there are. On a real cluster
each controller adopts for itself, as the first thing of its pass; here one does it for both, before them.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.controller import Context, split_key
from otel_control_gym.stands.twin.objects import (
    DEPLOYMENT,
    POD,
    REPLICA_SET,
    Kind,
    Object,
    controller_of,
    owner_reference,
)
from otel_control_gym.stands.twin.watches import Change

__all__ = ("Adoption",)

_OWNERS = {REPLICA_SET: DEPLOYMENT, POD: REPLICA_SET}


class Adoption:
    """Gives orphans the owner that wants them."""

    name = "adoption"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._orphans: dict[tuple[Kind, str], None] = {}  # (kind, namespace/name), in the order of their becoming so

    def observe(self, change: Change) -> None:
        """Keep track of orphans; queue those that may find an owner."""
        item, kind = change.object, change.kind
        key = f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
        if kind in _OWNERS:
            if change.type == "DELETED" or controller_of(item) is not None:
                self._orphans.pop((kind, key), None)
            else:
                self._orphans[kind, key] = None
                self._context.soon(self.name, item, step=kind.plural)
        if change.type == "ADDED":
            for dependent, orphan in self._orphans:
                if _OWNERS[dependent] is kind:
                    self._context.at(self._context.now, self.name, orphan, dependent.plural)

    def reconcile(self, step: str, key: str) -> None:
        """Give an orphan the first owner whose selector matches it."""
        kind = REPLICA_SET if step == REPLICA_SET.plural else POD
        orphan = self._context.store.get(kind, *split_key(key))
        if orphan is None or controller_of(orphan) is not None or "deletionTimestamp" in orphan["metadata"]:
            return
        for owner in self._context.store.objects(_OWNERS[kind], orphan["metadata"]["namespace"]):
            if "deletionTimestamp" not in owner["metadata"] and _selects(owner, orphan):
                draft = self._context.store.draft(kind, *split_key(key))
                references = draft["metadata"].setdefault("ownerReferences", [])
                references.append(owner_reference(_OWNERS[kind], owner))
                self._context.store.update(kind, draft)
                return


def _selects(owner: Object, item: Object) -> bool:
    labels = item["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in owner["spec"]["selector"]["matchLabels"].items())
