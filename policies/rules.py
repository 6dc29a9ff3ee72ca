"""Controllers that are a rule: scale on saturation, leave it to the cluster's autoscaler, restart what fails, take back a rollout.

In: observations. Out: one action a step at most. Each is what an operator writes in an afternoon, and what anything learnt must beat.
All are public: nothing but the observation is looked at. What they may touch is given to them (`targets`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from otel_control_gym.engine.observation import Observation
from otel_control_gym.policies import sightings
from otel_control_gym.policies.scripted import NOOP, Choice

__all__ = ("ClusterAutoscaler", "RestartOnError", "RollbackOnBadRollout", "ThresholdAutoscaler", "Thresholds")

_MOST_REPLICAS = 6


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """When a service is scaled. Between `low` and `high` nothing happens: the gap is the hysteresis."""

    high: float = 0.8  #: of the CPU limit, mean over `high_buckets`
    low: float = 0.3  #: in each of `low_buckets`
    aim: float = 0.6  #: saturation that the new number of replicas would have
    high_buckets: int = 2
    low_buckets: int = 12
    up_pause_steps: int = 2  #: after a change, before the next upwards
    down_pause_steps: int = 6
    most_replicas: int = _MOST_REPLICAS


class ThresholdAutoscaler:
    """Adds replicas to the service whose CPU is nearest to its limit, and takes back what it added when it is idle.

    At least one replica is added, and as many as bring the saturation to `aim`; one at a time is taken, never below what was there when
    control began. After a change the service is left alone for a while: the effect takes time to show.
    """

    version = "threshold-1"
    information: Literal["public", "privileged"] = "public"

    def __init__(self, targets: Sequence[str], thresholds: Thresholds = Thresholds()) -> None:
        self._targets, self._thresholds = tuple(targets), thresholds
        self._floor: dict[str, int] = {}
        self._changed: dict[str, int] = {}  #: service -> step

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:  # noqa: ARG002
        """Return the most urgent change of replicas, or `noop`."""
        rule = self._thresholds
        present = sightings.latest(observation, "replicas_desired")
        busy = sightings.mean(observation, "cpu_saturation", rule.high_buckets)
        calm = sightings.mean(observation, "cpu_saturation", rule.low_buckets)
        wanted: list[tuple[float, str, int]] = []
        for service in self._targets:
            node = observation.node_names.index(service)
            if math.isnan(present[node]) or math.isnan(busy[node]):
                continue
            replicas, paused = int(present[node]), step - self._changed.get(service, -1_000_000)
            floor = self._floor.setdefault(service, replicas)
            if busy[node] > rule.high and replicas < rule.most_replicas and paused >= rule.up_pause_steps:
                more = max(replicas + 1, math.ceil(replicas * busy[node] / rule.aim))
                wanted.append((-float(busy[node]), service, min(rule.most_replicas, more)))
            elif calm[node] < rule.low and replicas > floor and paused >= rule.down_pause_steps:
                wanted.append((float(calm[node]), service, replicas - 1))
        if not wanted:
            return Choice(action=NOOP)
        _, service, replicas = min(wanted)
        self._changed[service] = step
        return Choice(action={"type": "scale", "target": service, "replicas": replicas})


class ClusterAutoscaler:
    """Gives each target the cluster's own autoscaler, one a step from the first on, and leaves everything to them.

    Kubernetes measures utilisation by the CPU *request*; 80 % is what `kubectl autoscale` takes when nobody says anything.
    """

    information: Literal["public", "privileged"] = "public"

    def __init__(
        self,
        targets: Sequence[str],
        *,
        cpu_utilization_percent: int = 80,
        min_replicas: int = 1,
        most_replicas: int = _MOST_REPLICAS,
    ) -> None:
        self.version = f"hpa-1-{cpu_utilization_percent}-{min_replicas}-{most_replicas}"
        self._targets = tuple(targets)
        self._settings: dict[str, Any] = {
            "min_replicas": min_replicas,
            "max_replicas": most_replicas,
            "cpu_utilization_percent": cpu_utilization_percent,
        }

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:  # noqa: ARG002
        """Return the autoscaler of the target whose turn it is, or `noop`."""
        if step >= len(self._targets):
            return Choice(action=NOOP)
        return Choice(action={"type": "set_autoscaler", "target": self._targets[step], **self._settings})


class RestartOnError:
    """Restarts the service whose own errors have been worst, where they have exceeded a share for some buckets, then waits."""

    version = "restart-on-error-1"
    information: Literal["public", "privileged"] = "public"

    def __init__(
        self, targets: Sequence[str], *, error_ratio: float = 0.05, buckets: int = 3, pause_steps: int = 5
    ) -> None:
        self._targets = tuple(targets)
        self._error_ratio, self._buckets, self._pause = error_ratio, buckets, pause_steps
        self._restarted: dict[str, int] = {}

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:  # noqa: ARG002
        """Return a restart of the worst service that isn't recovering from one, or `noop`."""
        errors = sightings.own_error_ratio(observation, self._buckets)
        candidates = [
            (-float(errors[node]), service)
            for service in self._targets
            if errors[node := observation.node_names.index(service)] > self._error_ratio
            and step - self._restarted.get(service, -1_000_000) > self._pause
        ]
        if not candidates:
            return Choice(action=NOOP)
        _, service = min(candidates)
        self._restarted[service] = step
        return Choice(action={"type": "restart", "target": service})


class RollbackOnBadRollout:
    """Takes back the newest rollout that it saw, if errors or latency of the entry got bad after it; each rollout once."""

    version = "rollback-on-bad-rollout-1"
    information: Literal["public", "privileged"] = "public"

    def __init__(
        self,
        targets: Sequence[str],
        *,
        entry: str,
        error_ratio: float = 0.01,
        latency_ms: float = 500.0,
        buckets: int = 2,
    ) -> None:
        self._targets = frozenset(targets)
        self._entry, self._error_ratio, self._latency_ms, self._buckets = entry, error_ratio, latency_ms, buckets
        self._seen: dict[str, int] = {}  #: service -> its last rollout that is neither known as good nor taken back
        self._done: dict[str, int] = {}

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:  # noqa: ARG002
        """Return a rollback of the newest suspicious rollout, or `noop`."""
        self._seen |= {name: time for name, time in sightings.rolled_out(observation).items() if name in self._targets}
        node = observation.node_names.index(self._entry)
        errors = sightings.least(observation, "error_ratio", self._buckets)[node]
        latency = sightings.least(observation, "latency_mean_ms", self._buckets)[node]
        bad = bool(np.nan_to_num(errors) > self._error_ratio or np.nan_to_num(latency) > self._latency_ms)
        suspicious = [(-time, name) for name, time in self._seen.items() if self._done.get(name) != time]
        if not bad or not suspicious:
            return Choice(action=NOOP)
        time, service = min(suspicious)
        self._done[service] = -time
        return Choice(action={"type": "rollback_config", "target": service})
