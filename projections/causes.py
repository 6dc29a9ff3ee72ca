"""Event ➜ the action that caused it, by one explicit rule.

In: which object belongs to which (owner references), and which objects an action wrote. Out: for an object and a moment, the latest
action applied before it that touched the object or one of its owners: a pod's event is linked to the scaling of its Deployment. What no
owner chain links stays without a cause; nearness in time is no cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from otel_control_gym.projections.lives import Life

__all__ = ("Causes",)

_HTTP = "HTTP"  #: kind of what isn't a Kubernetes object


class Causes:
    """Answers who caused what, for one set of actions."""

    def __init__(self, owners: Mapping[str, str], lives: Iterable[Life]) -> None:
        self._owners = owners
        self._touches: dict[str, list[tuple[int, str]]] = {}
        for life in lives:
            for written in (life.applied, *life.forced, life.reverted):
                for touched in written.objects if written is not None else ():
                    if touched.kind != _HTTP and touched.uid and written is not None:
                        entry = (written.time, life.requested.action_id)
                        self._touches.setdefault(touched.uid, []).append(entry)

    def of(self, uid: str, moment: int) -> str | None:
        """Return the id of the action that explains something that happened to an object."""
        touches: list[tuple[int, str]] = []
        seen: list[str] = []
        while uid and uid not in seen:
            seen.append(uid)
            touches += [touch for touch in self._touches.get(uid, []) if touch[0] <= moment]
            uid = self._owners.get(uid, "")
        return max(touches)[1] if touches else None
