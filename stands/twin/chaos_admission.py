"""Chaos Mesh's webhooks: defaults and rules for StressChaos and NetworkChaos.

In: bodies as a client sends them. Out: bodies with defaults, or an `ApiError` (422 as the CRD's schema, 403 as the webhook).

Accepted is what the simulated machines can do: CPU and memory stress, network delay. What Chaos Mesh knows and they don't
(stress-ng's own flags, loss, partitions, bandwidth, external targets) is denied here with that reason, and never accepted without effect.
"""

from __future__ import annotations

import copy
import re

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.api_errors import ApiError, forbidden, invalid
from otel_control_gym.stands.twin.objects import NETWORK_CHAOS, STRESS_CHAOS, Kind, Object

__all__ = ("admit_chaos", "admit_chaos_update", "go_duration", "memory_bytes", "milliseconds", "ramp_seconds")

_COMMON = {"selector", "mode", "value", "duration", "containerNames"}
_FIELDS = {
    STRESS_CHAOS: _COMMON | {"stressors", "stressngStressors"},
    NETWORK_CHAOS: (_COMMON - {"containerNames"})
    | {"action", "direction", "target", "externalTargets", "device", "targetDevice", "delay", "loss", "duplicate"}
    | {"corrupt", "rate", "bandwidth"},
}
_ACTIONS = ("netem", "delay", "loss", "duplicate", "corrupt", "partition", "bandwidth")
_DIRECTIONS = ("to", "from", "both")
_MODES = ("one", "all", "fixed", "fixed-percent", "random-max-percent")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_LATENCY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)")
_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_MAX_WORKERS = 8192
_STRESSORS = {"cpu": ("workers", "load", "options"), "memory": ("workers", "size", "oomScoreAdj", "options")}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|K|M|G|T)(?:I?B)?")
_SIZES = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def admit_chaos(kind: Kind, body: Object) -> Object:
    """Return a new chaos object with defaults, checked.

    Raises: ApiError: the schema or the webhook refuses it.
    """
    item = copy.deepcopy(body)
    item.pop("status", None)
    name, spec = item["metadata"]["name"], item.get("spec")
    if not isinstance(spec, dict):
        raise invalid(kind, name, "spec", "Required value", reason="FieldValueRequired")
    if kind not in _FIELDS:
        raise _unmodelled(kind, name, f"{kind.kind} yet")
    for field in spec:
        if field not in _FIELDS[kind]:
            raise ApiError(400, "BadRequest", f'strict decoding error: unknown field "spec.{field}"')
    _admit_selection(kind, name, "spec", spec, item["metadata"]["namespace"])
    duration = spec.get("duration")
    if duration is not None and duration != "" and go_duration(duration) is None:
        raise _denied(kind, name, "Spec.Duration", duration, "parse duration error")
    if kind is STRESS_CHAOS:
        _admit_stress(name, spec)
    else:
        _admit_network(name, spec, item["metadata"]["namespace"])
    return item


def admit_chaos_update(kind: Kind, before: Object, body: Object) -> Object:
    """Return a changed chaos object: metadata may change, the spec may not.

    Status is the controller's: a client could wipe it, having no sub-resource to keep it apart; here it keeps what it was.

    Raises: ApiError: the spec differs.
    """
    if body.get("spec") != before["spec"]:
        raise forbidden(kind, before["metadata"]["name"], _webhook("Cannot update chaos spec"))
    body.pop("status", None)
    return body | ({"status": before["status"]} if "status" in before else {})


def go_duration(text: object) -> int | None:
    """Return a duration in Go's notation (`1h30m`, `90s`, `-5s`) in nanoseconds, or None if it isn't one."""
    if text == "0":
        return 0
    if not isinstance(text, str) or _DURATION.fullmatch(text) is None:
        return None
    total = sum(round(float(number) * _UNITS[unit]) for number, unit in _DURATION_PART.findall(text))
    return -total if text.startswith("-") else total


def memory_bytes(size: object) -> int | None:
    """Return a memory stressor's size in bytes, or None if it isn't one; `MB` and `MiB` are the same to Chaos Mesh, powers of 1024."""
    match = _SIZE.fullmatch(size.strip().upper()) if isinstance(size, str) else None
    return None if match is None else int(float(match[1]) * _SIZES[match[2]])


def ramp_seconds(options: object) -> float | None:
    """Return how long a memory stressor takes to grow, by its options (`["--time 90s"]`); None: they say something else."""
    words = " ".join(options).replace("=", " ").split() if isinstance(options, list) else [] if not options else [""]
    if not words:
        return 0.0
    length = go_duration(words[1]) if len(words) == 2 and words[0] in ("--time", "-time") else None
    return None if length is None or length < 0 else length / SECOND


def milliseconds(text: str) -> float:
    """Return a latency as the chaos daemon applies it [ms]: one with a fraction (`0.5s`) is dropped, a quirk of the real one."""
    match = _LATENCY.fullmatch(text)
    if match is None or "." in match[1]:
        return 0.0
    return int(match[1]) * _UNITS[match[2]] / 10**6


def _admit_selection(kind: Kind, name: str, where: str, spec: Object, namespace: str) -> None:
    """Check a selector with its mode and value; an empty list of namespaces becomes the object's own."""
    selector = spec.get("selector")
    if not isinstance(selector, dict):
        raise invalid(kind, name, f"{where}.selector", "Required value", reason="FieldValueRequired")
    if not selector.get("namespaces"):
        selector["namespaces"] = [namespace]
    mode = spec.get("mode")
    if mode not in _MODES:
        raise _unsupported(kind, name, f"{where}.mode", mode, _MODES)
    if mode in ("one", "all"):
        return
    value = str(spec.get("value", ""))
    if not value.isdigit() or int(value) <= 0 or (mode != "fixed" and int(value) > 100):
        raise _denied(kind, name, "Spec.Value", value, f"value must be a positive integer that mode:{mode} allows")


def _admit_stress(name: str, spec: Object) -> None:
    stressors = spec.get("stressors") or {}
    if spec.get("stressngStressors"):
        raise _unmodelled(STRESS_CHAOS, name, "stressngStressors")
    if not stressors:
        raise _denied(STRESS_CHAOS, name, "Spec.Stressors", stressors, "missing stressors")
    for part, stressor in stressors.items():
        if part not in _STRESSORS:
            raise ApiError(400, "BadRequest", f'strict decoding error: unknown field "spec.stressors.{part}"')
        if not isinstance(stressor, dict):
            raise invalid(STRESS_CHAOS, name, f"spec.stressors.{part}", "Invalid value: must be an object")
        for field in stressor:
            if field not in _STRESSORS[part]:
                problem = f'strict decoding error: unknown field "spec.stressors.{part}.{field}"'
                raise ApiError(400, "BadRequest", problem)
        where = f"spec.stressors.{part}.workers"
        _check_integer(STRESS_CHAOS, name, where, stressor.get("workers"), 0, _MAX_WORKERS)
    if "cpu" in stressors:
        _admit_cpu(name, stressors["cpu"])
    if "memory" in stressors:
        _admit_memory(name, stressors["memory"])


def _admit_cpu(name: str, cpu: Object) -> None:
    if cpu.get("options"):
        raise _unmodelled(STRESS_CHAOS, name, "options of stress-ng")
    _check_integer(STRESS_CHAOS, name, "spec.stressors.cpu.load", cpu.get("load", 100), 0, 100)


def _admit_memory(name: str, memory: Object) -> None:
    size, score = memory.get("size", ""), memory.get("oomScoreAdj", 0)
    _check_integer(STRESS_CHAOS, name, "spec.stressors.memory.oomScoreAdj", score, -1000, 1000)
    if score == -1000:
        raise _unmodelled(STRESS_CHAOS, name, "stressors that the kernel spares (oomScoreAdj -1000)")
    if isinstance(size, str) and size.endswith("%"):
        raise _unmodelled(STRESS_CHAOS, name, "shares of memory: programs differ in what the whole is, name bytes")
    if memory_bytes(size) is None:
        raise _denied(STRESS_CHAOS, name, "Spec.Stressors.MemoryStressor.Size", size, "incorrect bytes format")
    if ramp_seconds(memory.get("options")) is None:
        raise _unmodelled(STRESS_CHAOS, name, "memStress options other than --time")


def _admit_network(name: str, spec: Object, namespace: str) -> None:
    action = spec.get("action")
    if action not in _ACTIONS:
        raise _unsupported(NETWORK_CHAOS, name, "spec.action", action, _ACTIONS)
    others = [key for key in ("loss", "duplicate", "corrupt", "rate", "bandwidth") if spec.get(key)]
    if action not in ("delay", "netem") or others:
        raise _unmodelled(NETWORK_CHAOS, name, "actions other than delay")
    direction = spec.setdefault("direction", "to")
    if direction not in _DIRECTIONS:
        raise _unsupported(NETWORK_CHAOS, name, "spec.direction", direction, _DIRECTIONS)
    target = spec.get("target")
    if target is not None:
        _admit_selection(NETWORK_CHAOS, name, "spec.target", target, namespace)
    if spec.get("externalTargets"):
        if direction != "to":
            problem = "external targets cannot be used with `from` and `both` direction in netem action yet"
            raise _denied(NETWORK_CHAOS, name, "Spec.Direction", direction, problem)
        raise _unmodelled(NETWORK_CHAOS, name, "externalTargets")
    if direction != "to" and target is None:
        problem = "`from` and `both` direction cannot be used when targets is empty in netem action"
        raise _denied(NETWORK_CHAOS, name, "Spec.Direction", direction, problem)
    delay = spec.get("delay")
    if not isinstance(delay, dict):
        raise _denied(NETWORK_CHAOS, name, "Spec.Delay", delay, "the twin needs the block of the action")
    if delay.get("reorder"):
        raise _unmodelled(NETWORK_CHAOS, name, "reordering")
    delay |= {"jitter": delay.get("jitter", "0ms"), "correlation": delay.get("correlation", "0")}
    for key in ("latency", "jitter"):
        if not isinstance(delay.get(key), str) or _LATENCY.fullmatch(delay[key]) is None:
            problem = f"Invalid value: \"{delay.get(key)}\": should match '^[0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h)$'"
            raise invalid(NETWORK_CHAOS, name, f"spec.delay.{key}", problem)


def _check_integer(kind: Kind, name: str, field: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(kind, name, field, f"Invalid value: {value!r}: must be an integer")
    if not least <= value <= most:
        raise invalid(kind, name, field, f"Invalid value: {value}: should be in {least}..{most}")


def _unsupported(kind: Kind, name: str, field: str, found: object, accepted: tuple[str, ...]) -> ApiError:
    supported = ", ".join(f'"{item}"' for item in accepted)
    problem = f'Unsupported value: "{found}": supported values: {supported}'
    return invalid(kind, name, field, problem, reason="FieldValueNotSupported")


def _denied(kind: Kind, name: str, field: str, found: object, problem: str) -> ApiError:
    return forbidden(kind, name, _webhook(f"{field}: Invalid value: {found!r}: {problem}"))


def _unmodelled(kind: Kind, name: str, what: str) -> ApiError:
    return forbidden(kind, name, _webhook(f"the twin's machines don't model {what}"))


def _webhook(message: str) -> str:
    return f'admission webhook "chaos-mesh-validation" denied the request: {message}'
