"""An application ➜ what can be injected into it, and what can be done about it, that a user would notice or might believe in.

In: a service configuration and a workload. Out: actions and interventions in their JSON form, without strength or duration where a word
stands for them. Left out is what nobody calls often enough to be measured, what is protected, and what the application doesn't have. Pure.

Which remedy helps is measured (docs/remedy-matrix.md); here it is data, because a design must know it before any run is played.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_control_gym.engine.campaigns.reach import Reach, reach_of
from otel_control_gym.engine.settings import ServiceConfiguration, Workload

__all__ = ("LEAST_REACH", "LEAST_REACH_OF", "Candidates", "helps", "place_of")

Action = dict[str, Any]

LEAST_REACH = 0.05  #: calls per user request: 25 in a bucket of 10 s at 50 requests a second
LEAST_REACH_OF = {"cpu_pressure": 0.2, "packet_loss": 0.2, "set_resources": 0.2}
"""What only delays a call takes more of them until users feel it, which they do from 10 ms a request on, in the mean. `visible` CPU
pressure costs a call about 58 ms, packet loss 67 ms: that takes 0.17 and 0.15 calls per user request. A quarter of the CPU limit was felt
in one application of four from 0.05 calls on, in all four from 0.2 on (docs/effect-certificates.md)."""

_FLAG_SERVICE = "flagd"  #: its answers are remembered by who asks; a way to it that is disturbed disturbs nobody
_STRESS_AND_NETWORK = ("cpu_pressure", "memory_pressure", "network_delay", "packet_loss", "network_partition")
_HELPS: dict[str, tuple[str, ...]] = {
    "cpu_pressure": ("scale", "set_autoscaler", "set_resources", "set_workload", "shift_traffic"),
    "memory_pressure": ("set_resources",),
    "network_partition": ("restart", "delete_pod", "rollout_config", "set_resources", "shift_traffic"),
    "bad_config": ("rollback_config",),
}
"""What gave back a quarter or more of what a fault takes that follows its workload into new pods."""
_REPLACES_PODS = ("restart", "delete_pod")  #: ends what sits in a pod, if it isn't injected anew
_AUTOSCALERS = {"zero": (1, 1, 80), "mild": (1, 2, 70), "visible": (2, 4, 60), "severe": (4, 8, 50)}
_USERS = {"zero": 1.0, "mild": 1.25, "visible": 1.75, "severe": 2.5}


def helps(action_type: str, fault_type: str, persistence: str) -> bool:
    """Return whether an action, done to the right service, is known to help against a fault."""
    if persistence == "pod" and fault_type in _STRESS_AND_NETWORK and action_type in _REPLACES_PODS:
        return True
    return action_type in _HELPS.get(fault_type, ())


def place_of(fault: Action, application: ServiceConfiguration) -> str:
    """Return the service that a fault sits in: of an edge the callee, of a bad configuration the service that has it."""
    if fault["type"] == "feature_flag":
        effects = application.flags[fault["flag"]].effects
        return next(name for effect in effects if (name := effect.unready or effect.operation.partition(":")[0]))
    source, arrow, target = str(fault["target"]).partition("->")
    return source if fault["type"] == "bad_config" or not arrow else target


class Candidates:
    """What there is to do in one application under one workload, in a fixed order."""

    def __init__(self, application: ServiceConfiguration, workload: Workload) -> None:
        self._application = application
        self._workload = workload
        self._reach: Reach = reach_of(application)
        self._services = [
            name
            for name, service in application.services.items()
            if service.kind == "service"
            and not (service.protected or service.stateful)
            and service.listens
            and self._reach.services.get(name, 0.0) >= LEAST_REACH
        ]
        self._edges = [
            (edge.source, edge.target)
            for edge in application.edges
            if self._reach.edges.get((edge.source, edge.target), 0.0) >= LEAST_REACH
            and not application.services[edge.target].protected
            and edge.target != _FLAG_SERVICE
        ]

    def faults(self, kind: str) -> list[Action]:
        """Return the interventions of a type that this application can suffer."""
        application, least = self._application, LEAST_REACH_OF.get(kind, LEAST_REACH)
        match kind:
            case "cpu_pressure" | "pod_kill" | "restart_loop":
                called = [name for name in self._services if self._reach.services[name] >= least]
                return [{"type": kind, "target": name} for name in called]
            case "memory_pressure":
                limited = [name for name in self._services if application.services[name].memory_limit_bytes]
                return [{"type": kind, "target": name} for name in limited]
            case "network_delay" | "packet_loss" | "network_partition":
                between = [edge for edge in self._edges if self._reach.edges[edge] >= least]
                return [{"type": kind, "target": f"{source}->{target}"} for source, target in between]
            case "bad_config":
                between = [edge for edge in self._edges if edge[1] in self._services]
                return [{"type": kind, "target": f"{source}->{target}"} for source, target in between]
            case "dependency_outage":
                called = [name for name, item in application.services.items() if item.kind == "dependency"]
                return [
                    {"type": kind, "target": name}
                    for name in called
                    if self._reach.services.get(name, 0.0) >= LEAST_REACH and not application.services[name].protected
                ]
            case "feature_flag":
                return [{"type": kind, "flag": name} for name in application.flags if self._works(name)]
        raise ValueError(f"{kind!r} isn't an intervention that campaigns plan")

    def _works(self, flag: str) -> bool:
        """Return whether a flag changes what a service with calls enough does (not only what users ask for)."""
        for effect in self._application.flags[flag].effects:
            service, _, operation = effect.operation.partition(":")
            known = self._application.services.get(effect.unready or service)
            if known is None or (effect.operation and operation not in known.operations):
                continue
            if self._reach.services.get(effect.unready or service, 0.0) >= LEAST_REACH:
                return True
        return False

    def actions(self, kind: str) -> list[Callable[[str], Action]]:
        """Return makers of the actions of a type; each takes the word for the strength, which some types ignore."""
        makers: dict[str, Callable[[str], list[Callable[[str], Action]]]] = {
            "disable_group": lambda _: [_fixed({"type": "disable_group", "target": name}) for name in self._groups()],
            "enable_group": lambda _: [_fixed({"type": "enable_group", "target": name}) for name in self._groups()],
            "set_workload": lambda _: [self._set_workload],
            "shift_traffic": lambda _: [
                _with_word({"type": "shift_traffic", "target": name, "version": version})
                for name in self._services
                for version in self._application.services[name].versions
                if self._application.services[name].versions[version].gets_ready
            ],
        }
        if kind in makers:
            return makers[kind](kind)
        least = LEAST_REACH_OF.get(kind, LEAST_REACH)
        return [self._maker(kind, name) for name in self._services if self._reach.services[name] >= least]

    def remedy(self, kind: str, place: str, word: str) -> Action | None:
        """Return the action of a type as one would take it against a fault that sits in `place`; None where it can't be taken there."""
        if kind in ("disable_group", "enable_group", "set_workload"):
            there = self.actions(kind)
            return there[0](word) if there else None
        if kind == "set_resources" and place in self._services:
            service = self._application.services[place]
            return {
                "type": kind,
                "target": place,
                "cpu_limit_cores": 4 * (service.cpu_limit_cores or 1.0),
                "memory_limit_bytes": 4 * (service.memory_limit_bytes or service.memory_base_bytes),
            }
        if kind == "shift_traffic":
            found = [maker(word) for maker in self.actions(kind)]
            return next((action for action in found if action["target"] == place), None)
        return self._maker(kind, place)(word) if place in self._services else None

    def _groups(self) -> list[str]:
        groups = {service.optional_group for service in self._application.services.values() if service.optional_group}
        return sorted(groups)

    def _maker(self, kind: str, target: str) -> Callable[[str], Action]:
        match kind:
            case "scale" | "delete_pod" | "set_resources":
                return _with_word({"type": kind, "target": target})
            case "restart" | "rollback_config":
                return _fixed({"type": kind, "target": target})
            case "rollout_config":
                return _fixed({"type": kind, "target": target, "env": {"LOG_LEVEL": "debug"}})
            case "set_autoscaler":
                return lambda word: (
                    {"type": kind, "target": target}
                    | dict(
                        zip(
                            ("min_replicas", "max_replicas", "cpu_utilization_percent"), _AUTOSCALERS[word], strict=True
                        )
                    )
                )
        raise ValueError(f"{kind!r} isn't an action that campaigns plan")

    def _set_workload(self, word: str) -> Action:
        if self._workload.arrivals == "open":
            return {"type": "set_workload", "rate_per_s": round(self._workload.rate_per_s * _USERS[word], 3)}
        return {"type": "set_workload", "users": round(self._workload.users * _USERS[word])}


def _fixed(action: Action) -> Callable[[str], Action]:
    return lambda _word: dict(action)


def _with_word(action: Action) -> Callable[[str], Action]:
    return lambda word: {**action, "intensity": word}
