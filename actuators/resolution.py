"""An action ➜ all that its request says: numbers for words, target, duration, and what to expect of it.

In: an action and the run's settings. Out: `Resolved`. Nothing of the stand is read: a request is logged before anything else is done. Next:
`journal` logs it, `opening` makes a procedure of it.

`root_cause_kind` and `expected_symptoms` come from the catalogue and the service graph: the entry says what the target shows and what of
that spreads; it spreads from callee to caller, errors only along calls whose failure fails the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from otel_control_gym.actuators.actions import DeletePod, Scale, SetResources, SetWorkload, ShiftTraffic
from otel_control_gym.actuators.catalogue import entry_of, to_json
from otel_control_gym.actuators.entries import Entry
from otel_control_gym.actuators.intensities import (
    cpu_strength,
    duration_class,
    duration_of,
    intensities,
    limit_strength,
    memory_strength,
    pods_of,
    scale_strength,
    variant_of,
)
from otel_control_gym.actuators.interventions import (
    BadConfig,
    CpuPressure,
    DependencyOutage,
    FeatureFlag,
    MemoryPressure,
    NetworkDelay,
    NetworkPartition,
    PacketLoss,
    PodKill,
    RestartLoop,
)
from otel_control_gym.actuators.profiles import profile
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import Intensity, RunSettings, Service, ServiceConfiguration

__all__ = ("Resolved", "group_members", "parameters_of", "resolve", "target_of")


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """An action as it is logged and carried out."""

    action: msgspec.Struct
    entry: Entry
    target: str
    parameters: dict[str, Any]  #: words and numbers, without target and duration
    duration_ns: int | None
    root_cause_kind: str
    expected_symptoms: tuple[str, ...]


def resolve(action: msgspec.Struct, settings: RunSettings) -> Resolved:
    """Return everything that an action's request says."""
    entry, services = entry_of(action), settings.services
    parameters, target = parameters_of(action, services), target_of(action, services)
    duration = _duration(action, entry, settings.granularity.action_duration_seconds)
    if duration is not None:
        word = getattr(action, "duration", None)
        parameters["duration_class"] = word or duration_class(duration / SECOND)
    nil = parameters.get("intensity") == "zero"
    if not nil and target in services.services and services.services[target].stateful:
        parameters["data_lost"] = _loses_data(action, parameters, services.services[target])
    return Resolved(
        action=action,
        entry=entry,
        target=target,
        parameters=parameters,
        duration_ns=duration,
        root_cause_kind=_root_cause_kind(entry, target, services),
        expected_symptoms=() if nil else _symptoms(entry, target, services),
    )


def _loses_data(action: msgspec.Struct, parameters: dict[str, Any], service: Service) -> bool:
    """Return whether the process of a target is ended, which takes along what it held: the stores of the application have no volumes."""
    if isinstance(action, DependencyOutage):
        return parameters["mechanism"] in ("pod_failure", "scale_to_zero")
    if isinstance(action, MemoryPressure):
        limit = service.memory_limit_bytes
        return bool(limit) and service.memory_base_bytes + parameters["size_bytes"] > limit
    return isinstance(action, PodKill | RestartLoop)


def target_of(action: msgspec.Struct, services: ServiceConfiguration) -> str:
    """Return the target; of a flag it is the service on which it works, or an empty text if the application hasn't got that."""
    if isinstance(action, FeatureFlag):
        effects = services.flags[action.flag].effects if action.flag in services.flags else ()
        places = [effect.unready or effect.operation.partition(":")[0] for effect in effects]
        return next((place for place in places if place in services.services), "")
    return str(getattr(action, "target", ""))


def group_members(services: ServiceConfiguration, group: str) -> tuple[str, ...]:
    """Return the services of an optional group."""
    return tuple(name for name, item in services.services.items() if item.optional_group == group)


def _duration(action: msgspec.Struct, entry: Entry, default_seconds: int) -> int | None:
    """Return how long the action lasts [ns]; interventions always end."""
    seconds: int | None = getattr(action, "duration_seconds", None)
    word = getattr(action, "duration", None)
    if word is not None:
        seconds = duration_of(entry.type, word)
    elif seconds is None and entry.action_class == "intervention":
        seconds = default_seconds
    return None if seconds is None else seconds * SECOND


# --- words and numbers ----------------------------------------------------------------------------------------------------------


def parameters_of(action: msgspec.Struct, services: ServiceConfiguration) -> dict[str, Any]:
    """Return an action's parameters as they are logged: words and numbers, resolved, without target and duration."""
    resolver = _RESOLVERS.get(type(action))
    if resolver is not None:
        return resolver(action, services)
    left_out = ("type", "target", "duration_seconds", "duration")
    return {key: value for key, value in to_json(action).items() if key not in left_out}


def _word(action: Any, *numbers: str) -> Intensity | None:
    """Return the word for the strength: the one given, or `visible` where no number is given either."""
    word: Intensity | None = action.intensity
    return "visible" if word is None and all(getattr(action, name) is None for name in numbers) else word


def _given(number: Any, otherwise: Any) -> Any:
    return otherwise if number is None else number


def _scale(action: Scale, services: ServiceConfiguration) -> dict[str, Any]:
    if action.intensity is None:
        return {"replicas": action.replicas}
    return {
        "intensity": action.intensity,
        "replicas": scale_strength(action.intensity, services.services[action.target]),
    }


def _delete(action: DeletePod, services: ServiceConfiguration) -> dict[str, Any]:
    common = {"grace_seconds": action.grace_seconds}
    if action.intensity is None:
        return {"count": _given(action.count, 1), **common}
    share = intensities().delete_pod[action.intensity].pods_percent
    count = pods_of(share, services.services[action.target].replicas)
    return {"intensity": action.intensity, "count": count, **common}


def _resources(action: SetResources, services: ServiceConfiguration) -> dict[str, Any]:
    if action.intensity is not None:
        word = action.intensity
        return {"intensity": word, **limit_strength(word, services.services[action.target])}
    keys = ("cpu_request_cores", "cpu_limit_cores", "memory_request_bytes", "memory_limit_bytes")
    return {key: getattr(action, key) for key in keys if getattr(action, key) is not None}


def _shift(action: ShiftTraffic, _: ServiceConfiguration) -> dict[str, Any]:
    weight = action.weight_percent
    if action.intensity is not None:
        weight = intensities().shift_traffic[action.intensity].weight_percent
    word = {} if action.intensity is None else {"intensity": action.intensity}
    chosen = {"version": action.version, "weight_percent": weight, "via": action.via}
    return {**word, **chosen, "reconnect_callers": action.reconnect_callers}


def _workload(action: SetWorkload, services: ServiceConfiguration) -> dict[str, Any]:
    if action.profile is None:
        values = {"users": action.users, "rate_per_s": action.rate_per_s, "mix": action.mix}
        given = {key: value for key, value in values.items() if value is not None}
        return given if action.users is None else given | {"spawn_rate_per_s": action.spawn_rate_per_s}
    wanted = profile(action.profile)
    mix = {flow: wanted.mix.get(flow, item.weight) for flow, item in services.flows.items()}
    if wanted.arrivals == "open":
        return {"profile": action.profile, "rate_per_s": wanted.rate_per_s, "mix": mix}
    return {
        "profile": action.profile,
        "users": wanted.users,
        "spawn_rate_per_s": wanted.spawn_rate_per_s,
        "mix": mix,
    }


def _cpu(action: CpuPressure, services: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "workers", "load_percent")
    limit = services.services[action.target].cpu_limit_cores or 1.0
    strength = cpu_strength(word or "visible", limit_cores=limit)
    return {
        "intensity": word,
        "workers": _given(action.workers, strength.workers),
        "load_percent": _given(action.load_percent, strength.load_percent),
        "persistence": action.persistence,
    }


def _memory(action: MemoryPressure, services: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "size_bytes")
    size = memory_strength(word or "visible", services.services[action.target])
    return {
        "intensity": word,
        "size_bytes": _given(action.size_bytes, size),
        "shape": action.shape,
        "persistence": action.persistence,
    }


def _delay(action: NetworkDelay, _: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "latency_ms", "jitter_ms")
    strength = intensities().network_delay[word or "zero"]
    return {
        "intensity": word,
        "latency_ms": _given(action.latency_ms, strength.latency_ms),
        "jitter_ms": _given(action.jitter_ms, strength.jitter_ms),
        "persistence": action.persistence,
    }


def _loss(action: PacketLoss, _: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "loss_percent")
    loss = intensities().packet_loss[word or "visible"].loss_percent
    return {
        "intensity": word,
        "loss_percent": _given(action.loss_percent, loss),
        "persistence": action.persistence,
    }


def _partition(action: NetworkPartition, _: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "pods_percent")
    share = intensities().network_partition[word or "severe"].pods_percent
    return {
        "intensity": word,
        "pods_percent": _given(action.pods_percent, share),
        "persistence": action.persistence,
    }


def _kill(action: PodKill, _: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "pods_percent")
    strength = intensities().pod_kill[word or "visible"]
    return {
        "intensity": word,
        "pods_percent": _given(action.pods_percent, strength.pods_percent),
        "grace_seconds": _given(action.grace_seconds, strength.grace_seconds),
        "persistence": action.persistence,
    }


def _loop(action: RestartLoop, _: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "pods_percent", "every_seconds")
    strength = intensities().restart_loop[word or "visible"]
    return {
        "intensity": word,
        "pods_percent": _given(action.pods_percent, strength.pods_percent),
        "every_seconds": _given(action.every_seconds, strength.every_seconds),
    }


def _outage(action: DependencyOutage, _: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "mechanism", "latency_ms")
    strength = intensities().dependency_outage[word or "mild"]
    return {
        "intensity": word,
        "mechanism": _given(action.mechanism, strength.mechanism if action.latency_ms is None else "delay"),
        "latency_ms": _given(action.latency_ms, strength.latency_ms),
        "persistence": action.persistence,
    }


def _mistake(action: BadConfig, _: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "mistake")
    strength = intensities().bad_config[word or "visible"]
    return {
        "intensity": word,
        "mistake": _given(action.mistake, strength.mistake),
        "wrong": word is None or strength.wrong,
    }


def _flag(action: FeatureFlag, services: ServiceConfiguration) -> dict[str, Any]:
    word = _word(action, "variant")
    variant = action.variant if word is None else variant_of(word, services.flags[action.flag])
    return {"intensity": word, "flag": action.flag, "variant": variant}


_RESOLVERS: dict[type[Any], Callable[[Any, ServiceConfiguration], dict[str, Any]]] = {
    Scale: _scale,
    DeletePod: _delete,
    SetResources: _resources,
    ShiftTraffic: _shift,
    SetWorkload: _workload,
    CpuPressure: _cpu,
    MemoryPressure: _memory,
    NetworkDelay: _delay,
    PacketLoss: _loss,
    NetworkPartition: _partition,
    PodKill: _kill,
    RestartLoop: _loop,
    DependencyOutage: _outage,
    BadConfig: _mistake,
    FeatureFlag: _flag,
}


# --- what to expect -------------------------------------------------------------------------------------------------------------


def _root_cause_kind(entry: Entry, target: str, services: ServiceConfiguration) -> str:
    """Return what kind of thing in the graph the cause sits in."""
    if entry.target_kind == "service":
        return services.services[target].kind if target in services.services else "dependency"
    return entry.target_kind


def _symptoms(entry: Entry, target: str, services: ServiceConfiguration) -> tuple[str, ...]:
    """Return `entity:symptom`, the target's first, then its callers' by distance."""
    origins = _origins(entry, target, services)
    places = [target] if entry.target_kind == "edge" else list(origins)
    found = [f"{place}:{symptom}" for place in places for symptom in entry.symptoms]
    if entry.target_kind == "edge":  # what an edge shows, its source shows as a caller does
        origins = (target.partition("->")[0],)
        found += [f"{origins[0]}:{symptom}" for symptom in entry.spreads]
    for symptom in entry.spreads:
        found += [f"{caller}:{symptom}" for caller in _callers(origins, services, fatal=symptom == "errors")]
    return tuple(dict.fromkeys(found))


def _origins(entry: Entry, target: str, services: ServiceConfiguration) -> tuple[str, ...]:
    match entry.target_kind:
        case "service":
            return (target,)
        case "group":
            return group_members(services, target)
        case "workload":
            return (services.entry,)
        case _:
            return ()


def _callers(origins: tuple[str, ...], services: ServiceConfiguration, *, fatal: bool) -> tuple[str, ...]:
    """Return the services that reach one of the origins by calls (`fatal`: whose failure fails the caller), nearest first."""
    found: dict[str, None] = dict.fromkeys(origins)
    queue = list(origins)
    while queue:
        callee = queue.pop(0)
        for edge in services.edges:
            if edge.target != callee or edge.source in found or edge.source not in services.services:
                continue
            if services.services[edge.source].kind == "workload" or (
                fatal and not _fails(edge.source, callee, services)
            ):
                continue
            found[edge.source] = None
            queue.append(edge.source)
    return tuple(name for name in found if name not in origins)


def _fails(caller: str, callee: str, services: ServiceConfiguration) -> bool:
    """Return whether a call of the callee fails some operation of the caller when it fails; no operations: it may."""
    operations = services.services[caller].operations
    calls = [call for item in operations.values() for step in item.steps for call in step.calls]
    own = [call for call in calls if call.target.partition(":")[0] == callee]
    return not calls or any(call.on_error == "fail" for call in own)
