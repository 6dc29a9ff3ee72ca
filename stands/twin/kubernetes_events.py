"""Events: what components say about objects, kept for an hour, repeats counted on the same Event.

In: `record` calls of the controllers. Out: core/v1 Event objects in the store.

A component that says the same of an object again (same reason and message) raises the count and `lastTimestamp` of its Event;
Chaos Mesh's components don't. Real recorders also drop events above 25 per object and 5 minutes; the twin's never do.
"""

from __future__ import annotations

from typing import Literal

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.controller import Context, split_key
from otel_control_gym.stands.twin.objects import EVENT, Kind, Object, moment, timestamp
from otel_control_gym.stands.twin.watches import Change

__all__ = ("EventRecorder", "record")

_LIFE = 3600 * SECOND


def record(
    context: Context,
    kind: Kind,
    item: Object,
    reason: str,
    message: str,
    *,
    component: str,
    type: Literal["Normal", "Warning"] = "Normal",  # noqa: A002 - as the Event calls it
    host: str = "",
    field_path: str = "",
    annotations: dict[str, str] | None = None,
) -> None:
    """Say something about an object; with annotations (Chaos Mesh's recorder) never counted onto an earlier Event."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace", "default")
    said = (metadata["uid"], reason, message, component)
    known = context.events.get(said) if annotations is None else None
    if known is not None and context.store.get(EVENT, namespace, known) is not None:
        draft = context.store.draft(EVENT, namespace, known)
        draft["count"] += 1
        draft["lastTimestamp"] = timestamp(context.now)
        context.store.update(EVENT, draft)
        return
    event: Object = {
        "metadata": {"name": _name(context, namespace, metadata["name"]), "namespace": namespace},
        "involvedObject": _involved(kind, item, namespace, field_path),
        "reason": reason,
        "message": message,
        "source": {"component": component, "host": host} if host else {"component": component},
        "firstTimestamp": timestamp(context.now),
        "lastTimestamp": timestamp(context.now),
        "count": 1,
        "type": type,
        "eventTime": None,
        "reportingComponent": component,
        "reportingInstance": host,
    }
    if annotations:
        event["metadata"]["annotations"] = annotations
    context.events[said] = context.store.create(EVENT, event, context.now)["metadata"]["name"]


class EventRecorder:
    """Removes Events an hour after they were last heard."""

    name = "events"

    def __init__(self, context: Context) -> None:
        self._context = context

    def observe(self, change: Change) -> None:
        """Plan an Event's end."""
        if change.kind is EVENT and change.type == "ADDED":
            self._context.soon(self.name, change.object, after=_LIFE / SECOND)

    def reconcile(self, step: str, key: str) -> None:  # noqa: ARG002 - one step only
        """Remove an Event, or come back when it was heard again in between."""
        event = self._context.store.get(EVENT, *split_key(key))
        if event is None:
            return
        end = moment(event["lastTimestamp"]) + _LIFE
        if end > self._context.now:
            self._context.at(end, self.name, key)
            return
        self._context.store.remove(EVENT, *split_key(key))
        said = (event["involvedObject"]["uid"], event["reason"], event["message"], event["source"]["component"])
        self._context.events.pop(said, None)


def _involved(kind: Kind, item: Object, namespace: str, field_path: str) -> Object:
    metadata = item["metadata"]
    involved = {
        "kind": kind.kind,
        "namespace": namespace,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": kind.api_version,
        "resourceVersion": metadata["resourceVersion"],
    }
    return involved | ({"fieldPath": field_path} if field_path else {})


def _name(context: Context, namespace: str, name: str) -> str:
    """Return `<object>.<hex time>`, with a later time if that one is taken."""
    time = context.now
    while context.store.get(EVENT, namespace, f"{name}.{time:x}") is not None:
        time += 1
    return f"{name}.{time:x}"
