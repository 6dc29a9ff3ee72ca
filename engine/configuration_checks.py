"""Checks across settings: what a type can't say. Every message names both values and what would be right.

In: records and the label of the file that each came from. Out: nothing, or a `ConfigurationError`. `engine.configuration` calls these
once, when a run is put together; `check_duration` and `check_window` are for the calls of a running environment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from otel_control_gym.engine.configuration_flags import check_flags
from otel_control_gym.engine.configuration_layers import Layers
from otel_control_gym.engine.configuration_metrics import check_metrics
from otel_control_gym.engine.configuration_telemetry import check_telemetry
from otel_control_gym.engine.configuration_topics import check_topics
from otel_control_gym.engine.configuration_workload import check_workload
from otel_control_gym.engine.errors import ConfigurationError, nearest
from otel_control_gym.engine.plain_values import whole_number
from otel_control_gym.engine.randomization import check_randomization
from otel_control_gym.engine.settings import (
    EpisodeSettings,
    Granularity,
    PlannedAction,
    RewardSettings,
    RunConfig,
    RunSettings,
    Scenario,
    Service,
    ServiceConfiguration,
)

__all__ = ("Labels", "check", "check_duration", "check_rows", "check_window")


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """Where each part of a configuration came from, for messages."""

    scenario: str
    services: str
    workload: str
    granularity: str
    reward: str
    episode: str
    telemetry: str
    metrics: str
    layers: Layers | None = None  #: what the services were made of, if they came from files


_LONGEST_MENU = 19  #: with noop, twenty equally likely choices


def check(config: RunConfig, labels: Labels) -> None:
    """Check a whole configuration.

    Raises: ConfigurationError: it can't be run.
    """
    public = config.public
    _check_granularity(public.granularity, labels.granularity)
    try:
        _check_services(public.services, labels.services)
        if public.services.randomize is not None:
            check_randomization(public.services.randomize, public.services, labels.services)
    except ConfigurationError as error:
        if labels.layers is None:
            raise
        raise labels.layers.relocated(error) from None
    check_workload(config.workload, public.services, labels.workload)
    _check_reward(public.reward, public.services, labels.reward)
    _check_episode(public.episode, labels.episode)
    check_metrics(public.metrics, public.granularity, labels.metrics)
    check_telemetry(public, labels.telemetry)
    _check_scenario(config.scenario, public, labels.scenario)
    if config.scenario.randomize is not None:
        check_randomization(config.scenario.randomize, public.services, labels.scenario)


# --- time -------------------------------------------------------------------------------------------------------------------


def check_duration(dt: int | None, settings: RunSettings) -> int:
    """Return how many seconds a step lasts: `dt`, or the control step.

    Raises: ConfigurationError: not a positive multiple of the observation bucket. UsageError: no whole number.
    """
    granularity = settings.granularity
    if dt is None:
        return granularity.control_step_seconds
    dt = whole_number(dt, "dt")
    _positive(dt, "step", "dt")
    _multiple(dt, "dt", granularity, "observation_bucket_seconds", "step", "a step must end where a bucket ends")
    return dt


def check_window(window: int | None, bucket: int | None, granularity: Granularity) -> tuple[int, int]:
    """Return the window and the bucket [s] of an observation; None stands for the configuration's.

    Raises:
        ConfigurationError: the bucket is no multiple of the scrape interval, or the window none of the bucket.
        UsageError: one of them is no whole number.
    """
    wanted = granularity
    if window is not None:
        wanted = msgspec.structs.replace(wanted, observation_window_seconds=whole_number(window, "window"))
    if bucket is not None:
        wanted = msgspec.structs.replace(wanted, observation_bucket_seconds=whole_number(bucket, "granularity"))
    _check_observation(wanted, "observe")
    return wanted.observation_window_seconds, wanted.observation_bucket_seconds


def check_rows(granularity: Granularity, file: str) -> None:
    """Check that the times which cut rows go together with each other and with those that a run lives by.

    Raises: ConfigurationError: two of them don't; names both values.
    """
    _check_times(granularity, file)
    for name, reason in (
        ("reward_bucket_seconds", "rewards are sums over whole buckets"),
        ("trace_aggregation_seconds", "its windows consist of whole buckets"),
        ("log_pattern_window_seconds", "its windows consist of whole buckets"),
    ):
        _multiple(getattr(granularity, name), name, granularity, "observation_bucket_seconds", file, reason)
    step, reward = granularity.control_step_seconds, granularity.reward_bucket_seconds
    if step % reward and reward % step:
        raise ConfigurationError(
            file=file,
            key="reward_bucket_seconds",
            found=reward,
            problem=f"neither a multiple nor a divisor of control_step_seconds = {step}, so no step would own a reward",
            remedy=f"use {step}, a multiple of it, or a divisor of it that is a multiple of {granularity.observation_bucket_seconds}",
        )


def _check_granularity(granularity: Granularity, file: str) -> None:
    _check_times(granularity, file)
    for name, reason in (
        ("control_step_seconds", "a step must end where a bucket ends"),
        ("warmup_seconds", "a bucket would hold warm-up and control"),
        ("cooldown_seconds", "the last bucket would stay incomplete"),
    ):
        _multiple(getattr(granularity, name), name, granularity, "observation_bucket_seconds", file, reason)
    check_rows(granularity, file)
    _multiple(
        granularity.warmup_seconds,
        "warmup_seconds",
        granularity,
        "reward_bucket_seconds",
        file,
        "a reward bucket would hold warm-up and control",
    )


def _check_times(granularity: Granularity, file: str) -> None:
    may_be_zero = ("warmup_seconds", "cooldown_seconds")
    for name in granularity.__struct_fields__:
        _positive(getattr(granularity, name), file, name, zero=name in may_be_zero)
    _check_observation(granularity, file)


def _check_observation(granularity: Granularity, file: str) -> None:
    bucket, scrape = granularity.observation_bucket_seconds, granularity.scrape_interval_seconds
    _positive(bucket, file, "observation_bucket_seconds")
    _positive(granularity.observation_window_seconds, file, "observation_window_seconds")
    if bucket < scrape:
        raise ConfigurationError(
            file=file,
            key="observation_bucket_seconds",
            found=bucket,
            problem=f"shorter than scrape_interval_seconds = {scrape}, so most buckets would be empty",
            remedy=f"use {scrape} or a multiple of it, or lower scrape_interval_seconds to a divisor of {bucket}",
        )
    _multiple(
        bucket,
        "observation_bucket_seconds",
        granularity,
        "scrape_interval_seconds",
        file,
        "buckets end where a scrape falls",
    )
    _multiple(
        granularity.observation_window_seconds,
        "observation_window_seconds",
        granularity,
        "observation_bucket_seconds",
        file,
        "a window consists of whole buckets",
    )


def _positive(found: float, file: str, key: str, *, zero: bool = False) -> None:
    if found < 0 or (found == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise ConfigurationError(file=file, key=key, found=found, problem=f"must be {least}", remedy=f"use {least}")


def _multiple(found: int, key: str, granularity: Granularity, unit_name: str, file: str, reason: str) -> None:
    unit: int = getattr(granularity, unit_name)
    if found % unit:
        below, above = found - found % unit, found - found % unit + unit
        near = f"{below} or {above}" if below else f"{above}"
        raise ConfigurationError(
            file=file,
            key=key,
            found=found,
            problem=f"no multiple of {unit_name} = {unit}: {reason}",
            remedy=f"use {near}, or make {unit_name} a divisor of {found}",
        )


# --- the application --------------------------------------------------------------------------------------------------------


def _check_services(services: ServiceConfiguration, file: str) -> None:
    _known(services.entry, services.services, file, "entry", "no service has this name")
    for name, service in services.services.items():
        _check_service(name, service, file)
    pairs: dict[tuple[str, str], int] = {}
    for number, edge in enumerate(services.edges):
        key = f"edges[{number}]"
        _known(edge.source, services.services, file, f"{key}.source", "no service has this name")
        _known(edge.target, services.services, file, f"{key}.target", "no service has this name")
        if (edge.source, edge.target) in pairs:
            _refuse(
                file,
                key,
                f"{edge.source}->{edge.target}",
                "the same edge is declared twice",
                "keep one of the two declarations",
            )
        pairs[edge.source, edge.target] = number
        _positive(edge.latency_ms, file, f"{key}.latency_ms", zero=True)
    _check_calls(services, pairs, file)
    check_topics(services, file)
    check_flags(services, file)
    entry = services.services[services.entry]
    for name, flow in services.flows.items():
        _positive(flow.weight, file, f"flows.{name}.weight", zero=True)
        for number, request in enumerate(flow.requests):
            key = f"flows.{name}.requests[{number}]"
            _known(request, entry.operations, file, key, f"the entry service {services.entry!r} has no such operation")
        if not flow.requests:
            _refuse(
                file, f"flows.{name}.requests", [], "a flow without requests", "name operations of the entry service"
            )
        _ordered(flow.additions, file, f"flows.{name}.additions")
    if not any(flow.weight > 0 for flow in services.flows.values()):
        _refuse(file, "flows", list(services.flows), "no flow has a weight above 0", "give at least one flow a weight")


def _check_service(name: str, service: Service, file: str) -> None:
    key = f"services.{name}"
    for field in ("replicas", "workers", "threads", "memory_request_bytes"):
        _positive(getattr(service, field), file, f"{key}.{field}", zero=True)
    _positive(service.cpu_request_cores, file, f"{key}.cpu_request_cores")
    if service.stateful and service.replicas > 1:
        problem = "a stateful service keeps its data in one pod"
        _refuse(file, f"{key}.replicas", service.replicas, problem, "use 1, or set stateful to false")
    for resource, unit in (("cpu", "cores"), ("memory", "bytes")):
        request = getattr(service, f"{resource}_request_{unit}")
        limit = getattr(service, f"{resource}_limit_{unit}")
        if limit is not None and limit < request:
            problem = f"below {resource}_request_{unit} = {request}, which Kubernetes refuses"
            _refuse(
                file, f"{key}.{resource}_limit_{unit}", limit, problem, f"use at least {request}, or lower the request"
            )


def _check_calls(services: ServiceConfiguration, pairs: Mapping[tuple[str, str], int], file: str) -> None:
    calls: dict[str, list[str]] = {}
    for name, service in services.services.items():
        for operation_name, operation in service.operations.items():
            address = f"{name}:{operation_name}"
            calls[address] = []
            for step_number, step in enumerate(operation.steps):
                for call_number, call in enumerate(step.calls):
                    key = (
                        f"services.{name}.operations.{operation_name}.steps[{step_number}].calls[{call_number}].target"
                    )
                    _check_call(name, call.target, services, pairs, file, key)
                    calls[address].append(call.target)
    _check_finite(calls, file)


def _check_call(
    source: str, target: str, services: ServiceConfiguration, pairs: Mapping[tuple[str, str], int], file: str, key: str
) -> None:
    service, _, operation = target.partition(":")
    if service not in services.services or not operation:
        addresses = [f"{name}:{own}" for name, entry in services.services.items() for own in entry.operations]
        _refuse(file, key, target, "no such service; a call is written service:operation", nearest(target, addresses))
    operations = services.services[service].operations
    if operation not in operations:
        accepted = [f"{service}:{name}" for name in operations]
        _refuse(file, key, target, f"service {service!r} has no operation {operation!r}", nearest(target, accepted))
    if (source, service) not in pairs:
        _refuse(
            file,
            key,
            target,
            f"there is no edge {source}->{service}",
            f"declare it in edges, or call a target of {source!r}",
        )


def _check_finite(calls: Mapping[str, list[str]], file: str) -> None:
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        circle = error.args[1]
        address = next(address for address in calls if address in circle)
        service, _, operation = address.partition(":")
        key = f"services.{service}.operations.{operation}"
        _refuse(file, key, address, "calls itself, directly or through others: it would never end", "break the cycle")


# --- reward, end ------------------------------------------------------------------------------------------------------------


def _check_reward(reward: RewardSettings, services: ServiceConfiguration, file: str) -> None:
    objective = reward.objective
    _known(objective.service, services.services, file, "objective.service", f"{services.name!r} has no such service")
    _positive(objective.latency_ms, file, "objective.latency_ms")
    for name in ("availability", "latency_share"):
        _share(getattr(objective, name), file, f"objective.{name}")
    for name in ("cpu_core_hour_price", "memory_gib_hour_price"):
        _positive(getattr(reward, name), file, name, zero=True)


def _check_episode(episode: EpisodeSettings, file: str) -> None:
    if episode.goal is not None:
        _positive(episode.goal.hold_seconds, file, "goal.hold_seconds")
    if episode.emergency is not None:
        _positive(episode.emergency.for_seconds, file, "emergency.for_seconds")
        _share(episode.emergency.availability_below, file, "emergency.availability_below")


# --- the script -------------------------------------------------------------------------------------------------------------


def _check_scenario(scenario: Scenario, public: RunSettings, file: str) -> None:
    granularity = public.granularity
    _positive(scenario.horizon_seconds, file, "horizon_seconds")
    for unit in ("control_step_seconds", "reward_bucket_seconds"):
        reason = "the last one would stay incomplete"
        _multiple(scenario.horizon_seconds, "horizon_seconds", granularity, unit, file, reason)
    for number, planned in enumerate(scenario.interventions):
        _check_planned(planned, scenario, public.services, file, f"interventions[{number}]")
    moments: list[int] = []
    for number, planned in enumerate(scenario.policy.actions):
        key = f"policy.actions[{number}]"
        _check_planned(planned, scenario, public.services, file, key)
        if planned.at_seconds in moments:
            problem = "another action is planned for the same step, and a step has one"
            _refuse(file, f"{key}.at_seconds", planned.at_seconds, problem, "use another step")
        moments.append(planned.at_seconds)
        reason = "a policy decides at the start of a step"
        _multiple(planned.at_seconds, f"{key}.at_seconds", granularity, "control_step_seconds", file, reason)
    _check_policy(scenario, granularity, file)


def _check_policy(scenario: Scenario, granularity: Granularity, file: str) -> None:
    policy = scenario.policy
    if policy.name != "scripted" and policy.actions:
        problem = f"a {policy.name} policy takes no listed actions, but policy.actions lists some"
        _refuse(file, "policy.name", policy.name, problem, "use scripted, or remove policy.actions")
    draws = policy.name in ("random", "human_like")
    for key in ("menu", "decide_at_seconds"):
        if not draws and getattr(policy, key):
            problem = f"policy.{key} is for random and human_like policies"
            _refuse(file, "policy.name", policy.name, problem, f"use one of them, or remove policy.{key}")
    if len(policy.menu) > _LONGEST_MENU:
        problem = "each choice would be less likely than 0.05, too seldom for off-policy estimates"
        _refuse(file, "policy.menu", len(policy.menu), problem, f"use at most {_LONGEST_MENU}")
    for number, moment in enumerate(policy.decide_at_seconds):
        key = f"policy.decide_at_seconds[{number}]"
        if not 0 <= moment < scenario.horizon_seconds:
            problem = f"outside the episode of horizon_seconds = {scenario.horizon_seconds}"
            _refuse(file, key, moment, problem, f"use 0 to {scenario.horizon_seconds - 1}")
        _multiple(moment, key, granularity, "control_step_seconds", file, "a policy decides at the start of a step")


def _check_planned(
    planned: PlannedAction, scenario: Scenario, services: ServiceConfiguration, file: str, key: str
) -> None:
    at = planned.at_seconds
    if not 0 <= at < scenario.horizon_seconds:
        problem = f"outside the episode of horizon_seconds = {scenario.horizon_seconds}"
        _refuse(file, f"{key}.at_seconds", at, problem, f"use 0 to {scenario.horizon_seconds - 1}")
    if not isinstance(planned.action.get("type"), str):
        problem = "an action needs a type"
        _refuse(file, f"{key}.action.type", planned.action.get("type"), problem, "add e.g. type: scale")
    target = planned.action.get("target")
    if not isinstance(target, str):
        return
    if "->" in target:
        edges = [f"{edge.source}->{edge.target}" for edge in services.edges]
        _known(target, edges, file, f"{key}.action.target", f"{services.name!r} has no such edge")
    else:
        groups = {service.optional_group for service in services.services.values() if service.optional_group}
        known = (*services.services, *sorted(groups))
        _known(target, known, file, f"{key}.action.target", f"{services.name!r} has no such service or group")


# --- the sentences ----------------------------------------------------------------------------------------------------------


def _refuse(file: str, key: str, found: Any, problem: str, remedy: str) -> None:
    raise ConfigurationError(file=file, key=key, found=found, problem=problem, remedy=remedy)


def _known(found: str, accepted: Collection[str], file: str, key: str, problem: str) -> None:
    if found not in accepted:
        _refuse(file, key, found, problem, nearest(found, accepted))


def _ordered(found: tuple[float, float], file: str, key: str) -> None:
    if not 0 <= found[0] <= found[1]:
        _refuse(file, key, list(found), "not two ascending bounds of 0 or more", "write [lowest, highest]")


def _share(found: float, file: str, key: str) -> None:
    if not 0 <= found <= 1:
        _refuse(file, key, found, "a share lies between 0 and 1", "use e.g. 0.99 for 99 %")
