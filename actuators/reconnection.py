"""Callers that dial anew: the restart of those that hold on to their connections to a service.

In: Deployments. Out: the patches of `kubectl rollout restart`, and what shows that all of it is done. A change of who serves (other pods
behind a Service, another port) isn't noticed on a connection that is open: gRPC clients and keep-alive pools keep the pod that they have.
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_control_gym.actuators.deployments import DeploymentClient
from otel_control_gym.actuators.moments import newest
from otel_control_gym.actuators.objects import Deployment
from otel_control_gym.actuators.postchecks import check_restart
from otel_control_gym.actuators.prechecks import refuse_rollout, refuse_untouchable
from otel_control_gym.actuators.procedure import Check
from otel_control_gym.actuators.rollouts import RESTARTED_AT, restart_patch
from otel_control_gym.actuators.transport import Refused
from otel_control_gym.engine.clock import rfc3339
from otel_control_gym.engine.events import TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("Reconnection",)


class Reconnection:
    """The restart of some Deployments, all at once."""

    def __init__(self, callers: Sequence[tuple[DeploymentClient, Service]]) -> None:
        self.fields = tuple(f"rollout:{client.name}" for client, _ in callers)
        self.names = tuple(client.name for client, _ in callers)
        self._callers = callers
        self._mark = ""
        self._generations: dict[str, int] = {}

    @property
    def begun(self) -> bool:
        """Whether every caller was told to restart."""
        return len(self._generations) == len(self._callers)

    async def refusal(self) -> str:
        """Return why one of them can't be restarted, or nothing.

        Raises: CallError: a Deployment can't be read.
        """
        for client, service in self._callers:
            try:
                present: Deployment = await client.read()
            except Refused as refusal:
                if refusal.status == 404:
                    return f"Deployment {client.name!r} doesn't exist"
                raise
            rejection = refuse_untouchable(client.name, service) or refuse_rollout(present)
            if rejection:
                return f"{rejection}; but it holds on to its connections, and wouldn't notice"
        return ""

    async def begin(self, now: int) -> tuple[TouchedObject, ...]:
        """Restart them; who was told already gets the same mark once more, which changes nothing.

        Raises: CallError: one of them can't be.
        """
        self._mark = self._mark or rfc3339(now)
        touched = []
        for client, _ in self._callers:
            after = await client.patch(restart_patch(self._mark))
            self._generations[client.name] = after.metadata.generation
            touched.append(after.metadata.touched("Deployment"))
        return tuple(touched)

    async def check(self) -> Check:
        """Look whether all of them have nothing but new pods."""
        checks = {client.name: await self._check(client) for client, _ in self._callers}
        complete = all(check.seen == "all" for check in checks.values())
        evidence = {name: check.evidence for name, check in checks.items()}
        if complete:
            return Check(seen="all", evidence=evidence, moment=newest(check.moment for check in checks.values()))
        return Check(seen="some", evidence=evidence | {"missing": "not all callers have restarted"})

    async def _check(self, client: DeploymentClient) -> Check:
        return check_restart(
            await client.read(),
            await client.replica_sets(),
            await client.pods(),
            annotation=RESTARTED_AT,
            mark=self._mark,
            generation=self._generations[client.name],
        )
