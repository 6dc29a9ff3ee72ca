"""Actions as they were asked for ➜ columns of a model's input: what was known when the request was made, and nothing later.

In: rows of `actions.parquet`, or actions that a policy weighs. Out: for every service a vector that says what is asked of it, of what it
calls and of what calls it, in terms that mean the same for all services: by which factor pods, CPU or memory are to grow, how full they
will be then, which share of pods is disturbed, how much of it holds still at the horizon. Status, postchecks and the times at which an
action took effect are outcomes: they aren't read here.

Later plans are left out for all models: a timed action's own end belongs to its request and is known.

Pure. Upstream: `windows`, `states`. Downstream: `rows` puts the vectors beside what the state says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.actuators import parse_action
from otel_control_gym.actuators.resolution import resolve
from otel_control_gym.baselines.systems import System
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import RunSettings

__all__ = ("ACTION_COLUMNS", "ACTION_TYPES", "OWN_COLUMNS", "Asked", "Before", "action_columns", "asked_by", "asked_in")

Float = npt.NDArray[np.float64]

ACTION_TYPES: tuple[str, ...] = (
    "scale",
    "restart",
    "delete_pod",
    "enable_group",
    "disable_group",
    "rollout_config",
    "rollback_config",
    "set_resources",
    "set_autoscaler",
    "shift_traffic",
    "set_workload",
)
"""What can be asked for beside `noop`."""

_SIZES = ("pods_ratio", "cpu_ratio", "memory_ratio", "fullness_after", "disturbed", "moved_share", "off", "released")
"""What an action asks of its target; factors as logarithms."""
_PAST = ("recent", "lately", "disturbed", "pods_back", "cpu_back", "back")

OWN_COLUMNS: tuple[str, ...] = (*(f"asked:{name}" for name in ACTION_TYPES), *(f"asked:{name}" for name in _SIZES))
"""The first of the columns: what is asked of a service itself, at the decision."""
ACTION_COLUMNS: tuple[str, ...] = (
    *OWN_COLUMNS,
    *(f"called asked:{name}" for name in ("any", *_SIZES)),
    *(f"caller asked:{name}" for name in ("any", *_SIZES)),
    "asked:anything",
    "asked:load_ratio",
    "asked:pods_ratio x fullness",
    "asked:disturbed x only_pod",
    *(f"before:{name}" for name in ACTION_TYPES),
    *(f"before:{name}" for name in _PAST),
    *(f"called before:{name}" for name in _PAST),
    *(f"caller before:{name}" for name in _PAST),
)
"""Names of the columns. *called*: asked of what the service calls, nearer ones count more; *caller*: of what calls it."""
_AT = {name: position for position, name in enumerate(ACTION_COLUMNS)}
_WITHIN_STEPS = 10  #: how long an action is looked back on
_PODS, _CORES, _BYTES, _RATE, _USERS = 0.1, 0.005, 4 * 2.0**20, 0.5, 1.0  #: negligible, as in `channels`


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """An action as it was requested, words for strengths resolved to numbers."""

    action_type: str
    target: str
    parameters: dict[str, Any]
    duration_s: float | None  #: until it is taken back; None: it stays
    requested: int  #: ns


class Before(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the state says of each of N services at the decision, and of earlier steps (newest last), in the features' units."""

    pods: Float  #: [L, N] asked for
    ready: Float  #: [N]
    cpu_limit: Float  #: [L, N] all pods
    memory_limit: Float  #: [N] all pods
    cpu: Float  #: [N] used
    offered: float  #: requests per second
    users: float  #: that the load generator was told to have


def asked_in(row: Mapping[str, Any]) -> Asked:
    """Return what a row of `actions.parquet` asked for."""
    return Asked(
        action_type=row["action_type"],
        target=row["target"] or "",
        parameters=msgspec.json.decode(row["parameters"]),
        duration_s=row["duration_s"],
        requested=int(row["requested"].timestamp()) * SECOND + row["requested"].microsecond * 1000,
    )


def asked_by(action: msgspec.Struct | dict[str, Any], *, requested: int, settings: RunSettings) -> Asked:
    """Return what an action asks for, or would, at a moment [ns]; words become the numbers that the log would hold.

    Raises: InvalidAction: there is no such action, or a parameter is out of bounds.
    """
    resolved = resolve(parse_action(action) if isinstance(action, dict) else action, settings)
    return Asked(
        action_type=resolved.entry.type,
        target=resolved.target,
        parameters=resolved.parameters,
        duration_s=None if resolved.duration_ns is None else resolved.duration_ns / SECOND,
        requested=requested,
    )


def action_columns(
    now: Asked | None,
    past: Sequence[Asked],
    before: Before,
    system: System,
    *,
    time: int,
    step_seconds: int,
    horizon_s: int,
) -> Float:
    """Return the columns of a decision at `time` [ns] for every service, [N, len(ACTION_COLUMNS)].

    Args:
        now: what is asked for at the decision; None or `noop`: nothing.
        past: what was asked for before it.
        before: the state at the decision.
        system: the application.
        time: of the decision.
        step_seconds: length of a control step.
        horizon_s: to the end of the control step that is foretold.
    """
    found = np.zeros((len(system.nodes), len(ACTION_COLUMNS)))
    if now is not None and now.action_type in ACTION_TYPES:
        _put_now(found, now, before, system, step_seconds=step_seconds, horizon_s=horizon_s)
    for asked in past:
        age = (time - asked.requested) / SECOND / step_seconds
        if asked.action_type in ACTION_TYPES and 0 < age <= _WITHIN_STEPS:
            _put_before(found, asked, before, system, age=age, step_seconds=step_seconds, horizon_s=horizon_s)
    return found


def _put_now(found: Float, asked: Asked, before: Before, system: System, *, step_seconds: int, horizon_s: int) -> None:
    aimed = _aimed(asked, system)
    held = 1.0
    if asked.duration_s is not None:  # share of the foretold step in which it still holds
        held = float(np.clip((asked.duration_s - (horizon_s - step_seconds)) / step_seconds, 0.0, 1.0))
    sizes = _sizes(asked, before)  # [N, sizes]
    sizes[:, : _SIZES.index("released")] *= held
    sizes[:, _SIZES.index("released")] = 1.0 - held
    found[:, _AT["asked:anything"]] = 1.0
    found[:, _AT["asked:load_ratio"]] = held * _load_ratio(asked, before)
    fullness = before.cpu / np.maximum(before.cpu_limit[-1], _CORES)
    for target in aimed:
        size = np.nan_to_num(sizes[target])
        found[target, _AT[f"asked:{asked.action_type}"]] = 1.0
        _put(found, target, "asked", _SIZES, size)
        pods_ratio, disturbed = size[_SIZES.index("pods_ratio")], size[_SIZES.index("disturbed")]
        found[target, _AT["asked:pods_ratio x fullness"]] = pods_ratio * np.nan_to_num(fullness[target])
        found[target, _AT["asked:disturbed x only_pod"]] = disturbed * (before.ready[target] <= 1)
        _spread(found, target, system, "asked", ("any", *_SIZES), np.array([1.0, *size]))


def _put_before(
    found: Float, asked: Asked, before: Before, system: System, *, age: float, step_seconds: int, horizon_s: int
) -> None:
    disturbed = _sizes(asked, before)[:, _SIZES.index("disturbed")]
    gone = 0.0
    if asked.duration_s is not None:  # share of the foretold step in which it was taken back
        remaining = asked.duration_s - age * step_seconds
        gone = float(np.clip((horizon_s - remaining) / step_seconds, 0.0, 1.0)) if remaining > 0 else 0.0
    then = -1 - int(np.ceil(age))  # the step before the one in which it was asked for
    for target in _aimed(asked, system):
        pods_back = cpu_back = 0.0
        if gone and -then <= len(before.pods):
            pods_back = gone * _log_ratio(before.pods[then, target], before.pods[-1, target], _PODS)
            cpu_back = gone * _log_ratio(before.cpu_limit[then, target], before.cpu_limit[-1, target], _CORES)
        recent, lately = np.exp(-age), np.exp(-age / 4)
        size = np.nan_to_num(np.array([recent, lately, recent * disturbed[target], pods_back, cpu_back, gone]))
        found[target, _AT[f"before:{asked.action_type}"]] += lately
        _put(found, target, "before", _PAST, size)
        _spread(found, target, system, "before", _PAST, size)


def _put(found: Float, node: int, prefix: str, names: Sequence[str], size: Float) -> None:
    first = _AT[f"{prefix}:{names[0]}"]
    found[node, first : first + len(names)] += size


def _spread(found: Float, target: int, system: System, prefix: str, names: Sequence[str], size: Float) -> None:
    """Tell those that call the target, and those that it calls; what is n calls away counts 1/n."""
    for word, hops in (("called", system.hops[:, target]), ("caller", system.hops[target])):
        first = _AT[f"{word} {prefix}:{names[0]}"]
        for node in np.flatnonzero(np.isfinite(hops) & (hops > 0)):
            found[node, first : first + len(names)] += size / hops[node]


def _aimed(asked: Asked, system: System) -> list[int]:
    """Return the services that an action is about; none for the workload."""
    if asked.action_type in ("enable_group", "disable_group"):
        return [position for position, group in enumerate(system.groups) if group and group == asked.target]
    return [system.nodes.index(asked.target)] if asked.target in system.nodes else []


def _sizes(asked: Asked, before: Before) -> Float:
    """Return what is asked, as if of every service: [N, sizes], what holds at the horizon not yet reckoned in."""
    given, pods = asked.parameters, before.pods[-1]
    wanted = _wanted_pods(asked, pods)
    each = before.cpu_limit[-1] / np.maximum(before.ready, 1.0)
    limit = _number(given.get("cpu_limit_cores"))
    each_after = each if np.isnan(limit) else np.full_like(each, limit)
    memory = _number(given.get("memory_limit_bytes"))
    memory_each = before.memory_limit / np.maximum(before.ready, 1.0)
    resized = asked.action_type in ("scale", "set_resources", "set_autoscaler")
    fullness_after = np.log((before.cpu + _CORES) / (each_after * np.maximum(wanted, _PODS) + _CORES))
    columns = {
        "pods_ratio": _log_ratio(wanted, pods, _PODS),
        "cpu_ratio": _log_ratio(each_after, each, _CORES),
        "memory_ratio": np.zeros_like(pods) if np.isnan(memory) else _log_ratio(memory, memory_each, _BYTES),
        "fullness_after": fullness_after if resized else np.zeros_like(pods),
        "disturbed": _disturbed(asked, before),
        "moved_share": np.full_like(pods, np.nan_to_num(_number(given.get("weight_percent"))) / 100),
        "off": np.full_like(pods, float(asked.action_type == "disable_group")),
        "released": np.zeros_like(pods),
    }
    sizes: Float = np.nan_to_num(np.stack([columns[name] for name in _SIZES], axis=-1))
    return sizes


def _wanted_pods(asked: Asked, pods: Float) -> Float:
    given = asked.parameters
    match asked.action_type:
        case "scale":
            return np.full_like(pods, _number(given.get("replicas")))
        case "disable_group":
            return np.zeros_like(pods)
        case "enable_group":
            return np.maximum(pods, 1.0)
        case "set_autoscaler":
            least, most = _number(given.get("min_replicas")), _number(given.get("max_replicas"))
            within: Float = np.clip(pods, least, most)
            return within
    return pods


def _disturbed(asked: Asked, before: Before) -> Float:
    """Return the share of a service's pods that are ended and made anew."""
    match asked.action_type:
        case "restart" | "rollout_config" | "rollback_config" | "set_resources":
            return np.ones_like(before.ready)
        case "delete_pod":
            count = np.nan_to_num(_number(asked.parameters.get("count")), nan=1.0)
            share: Float = np.minimum(1.0, count / np.maximum(before.ready, 1.0))
            return share
    return np.zeros_like(before.ready)


def _load_ratio(asked: Asked, before: Before) -> float:
    """Return by which factor load is to grow, as a logarithm: users against users, a rate against a rate."""
    if asked.action_type != "set_workload":
        return 0.0
    users, rate = _number(asked.parameters.get("users")), _number(asked.parameters.get("rate_per_s"))
    ratios = [_log_ratio(users, before.users, _USERS), _log_ratio(rate, before.offered, _RATE)]
    return next((float(ratio) for ratio in ratios if np.isfinite(ratio)), 0.0)


def _log_ratio(after: Float | float, before: Float | float, negligible: float) -> Any:
    ratio: Any = np.log((after + negligible) / (before + negligible))
    return ratio


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
