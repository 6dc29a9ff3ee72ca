"""What a run is: names, files and overrides ➜ one checked `RunConfig`.

In: a target (a service configuration's or scenario's name, a scenario file, a record) and what should differ from it. Out: the
effective configuration in full, so that nothing is looked up again once a run has begun. Files are read by
`engine.configuration_files`, relations between values are checked by `engine.configuration_checks`.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import yaml

from otel_control_gym.engine.configuration_checks import Labels, check, check_duration, check_window
from otel_control_gym.engine.configuration_files import is_path, load, load_services, packaged_names
from otel_control_gym.engine.configuration_metrics import with_chosen_edges
from otel_control_gym.engine.errors import UsageError, nearest
from otel_control_gym.engine.plain_values import checked_seed
from otel_control_gym.engine.settings import (
    EpisodeSettings,
    Granularity,
    MetricMap,
    RewardSettings,
    RunConfig,
    RunSettings,
    Scenario,
    ServiceConfiguration,
    TelemetrySettings,
    TwinSettings,
)
from otel_control_gym.engine.synthetic import is_synthetic
from otel_control_gym.engine.workload_files import load_workload, without_absent_flows

__all__ = ("as_yaml", "check_duration", "check_window", "resolve", "targets")


def targets() -> tuple[str, ...]:
    """Return the packaged names that `resolve` accepts: scenarios and service configurations."""
    return tuple(sorted((*packaged_names("scenarios"), *packaged_names("services"))))


def resolve(
    target: str | Path | Scenario | RunConfig = "small-core",
    *,
    workload: str | None = None,
    granularity: str | None = None,
    reward: str | None = None,
    episode: str | None = None,
    telemetry: str | None = None,
    seed: int | None = None,
    horizon_seconds: int | None = None,
) -> RunConfig:
    """Return the checked configuration that a target stands for.

    Args:
        target: a scenario's name or file, the name of a service configuration or `synthetic:N[,seed]` (no interventions then), or
            a record.
        workload: name or file that replaces the target's; the same for `granularity`, `reward`, `episode` and `telemetry`.
        seed: decides every exogenous draw (default: the record's, else 0).
        horizon_seconds: length of the episode; interventions and actions planned beyond it are an error.

    Raises:
        UsageError: a name or file doesn't exist.
        ConfigurationError: the parts can't be run together; says where, what, and what would be right.
    """
    config, labels = _complete(target) if isinstance(target, RunConfig) else _assembled(target)
    config, labels = _overridden(config, labels, workload, granularity, reward, episode, telemetry)
    if horizon_seconds is not None:
        config = _with_horizon(config, horizon_seconds)
    if seed is not None:
        config = msgspec.structs.replace(config, seed=seed)
    offered = without_absent_flows(config.workload, config.public.services)
    config = msgspec.structs.replace(_with_objective(config), seed=checked_seed(config.seed), workload=offered)
    check(config, labels)
    return config


def as_yaml(config: RunConfig) -> str:
    """Return a configuration as YAML, every key in the order of its record."""
    return str(yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False, allow_unicode=True, width=120))


def _complete(config: RunConfig) -> tuple[RunConfig, Labels]:
    return config, Labels(
        scenario="RunConfig.scenario",
        services="RunConfig.public.services",
        workload="RunConfig.workload",
        granularity="RunConfig.public.granularity",
        reward="RunConfig.public.reward",
        episode="RunConfig.public.episode",
        telemetry="RunConfig.public.telemetry",
        metrics="RunConfig.public.metrics",
    )


def _assembled(target: str | Path | Scenario) -> tuple[RunConfig, Labels]:
    scenario, label, folder = _scenario(target)
    services, layers = load_services(scenario.services, beside=folder)
    workload, workload_label = load_workload(scenario.workload, beside=folder)
    granularity, granularity_label = load("granularity", scenario.granularity, Granularity, beside=folder)
    reward, reward_label = load("rewards", scenario.reward, RewardSettings, beside=folder)
    episode, episode_label = load("episodes", scenario.episode, EpisodeSettings, beside=folder)
    telemetry, telemetry_label = load("telemetry", scenario.telemetry, TelemetrySettings, beside=folder)
    name = services.metric_map or f"otel-demo-{services.demo_version}"
    offered, metrics_label = load("metrics", name, MetricMap, beside=folder)
    metrics = with_chosen_edges(offered, services, layers)
    config = RunConfig(
        public=RunSettings(
            services=services,
            granularity=granularity,
            metrics=metrics,
            reward=reward,
            episode=episode,
            telemetry=telemetry,
            horizon_seconds=scenario.horizon_seconds,
        ),
        scenario=scenario,
        workload=workload,
        twin=_node_for(services),
    )
    return config, Labels(
        scenario=label,
        services=layers.label,
        workload=workload_label,
        granularity=granularity_label,
        reward=reward_label,
        episode=episode_label,
        telemetry=telemetry_label,
        metrics=metrics_label,
        layers=layers,
    )


def _node_for(application: ServiceConfiguration) -> TwinSettings:
    """Return the twin's settings with a node that has room for twice what the application requests, in multiples of the default one."""
    usual = TwinSettings()
    cores = sum(service.replicas * service.cpu_request_cores for service in application.services.values())
    memory = sum(service.replicas * service.memory_request_bytes for service in application.services.values())
    nodes = max(1, math.ceil(2 * cores / usual.node_cores), math.ceil(2 * memory / usual.node_memory_bytes))
    return msgspec.structs.replace(
        usual, node_cores=nodes * usual.node_cores, node_memory_bytes=nodes * usual.node_memory_bytes
    )


def _scenario(target: str | Path | Scenario) -> tuple[Scenario, str, Path | None]:
    """Return the scenario, the label of its file, and the folder in which its names are looked for first."""
    if isinstance(target, Scenario):
        return target, "Scenario", None
    if isinstance(target, Path) or is_path(target):
        scenario, label = load("scenarios", _as_path(target), Scenario)
        return scenario, label, Path(label).parent
    if target in packaged_names("scenarios"):
        scenario, label = load("scenarios", target, Scenario)
        return scenario, label, None
    if target in packaged_names("services"):
        return Scenario(name=target, services=target), f"configs/services/{target}.yaml", None
    if is_synthetic(target):
        return Scenario(name=target, services=target), target, None
    raise UsageError(
        f"no scenario or service configuration is called {target!r}\n"
        f"  {nearest(target, targets())}; or synthetic:N; or give the path of a scenario file"
    )


def _as_path(target: str | Path) -> str:
    """Return a path in the spelling that `load` doesn't take for a name."""
    return str(Path(target).expanduser().absolute() if isinstance(target, Path) else target)


def _overridden(
    config: RunConfig,
    labels: Labels,
    workload: str | None,
    granularity: str | None,
    reward: str | None,
    episode: str | None,
    telemetry: str | None,
) -> tuple[RunConfig, Labels]:
    """Return the configuration with the named parts replaced, in the scenario's own record too."""
    public, scenario = config.public, config.scenario
    if workload is not None:
        record, label = load_workload(workload)
        config = msgspec.structs.replace(config, workload=record)
        scenario = msgspec.structs.replace(scenario, workload=record.name)
        labels = msgspec.structs.replace(labels, workload=label)
    if granularity is not None:
        times, label = load("granularity", granularity, Granularity)
        public = msgspec.structs.replace(public, granularity=times)
        scenario = msgspec.structs.replace(scenario, granularity=granularity)
        labels = msgspec.structs.replace(labels, granularity=label)
    if reward is not None:
        weights, label = load("rewards", reward, RewardSettings)
        public = msgspec.structs.replace(public, reward=weights)
        scenario = msgspec.structs.replace(scenario, reward=weights.name)
        labels = msgspec.structs.replace(labels, reward=label)
    if episode is not None:
        rules, label = load("episodes", episode, EpisodeSettings)
        public = msgspec.structs.replace(public, episode=rules)
        scenario = msgspec.structs.replace(scenario, episode=rules.name)
        labels = msgspec.structs.replace(labels, episode=label)
    if telemetry is not None:
        streams, label = load("telemetry", telemetry, TelemetrySettings)
        public = msgspec.structs.replace(public, telemetry=streams)
        scenario = msgspec.structs.replace(scenario, telemetry=streams.name)
        labels = msgspec.structs.replace(labels, telemetry=label)
    return msgspec.structs.replace(config, public=public, scenario=scenario), labels


def _with_objective(config: RunConfig) -> RunConfig:
    """Return the configuration with the objective's service named: users are served by the entry, whatever that is here."""
    reward = config.public.reward
    if reward.objective.service:
        return config
    objective = msgspec.structs.replace(reward.objective, service=config.public.services.entry)
    reward = msgspec.structs.replace(reward, objective=objective)
    return msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, reward=reward))


def _with_horizon(config: RunConfig, seconds: int) -> RunConfig:
    return msgspec.structs.replace(
        config,
        public=msgspec.structs.replace(config.public, horizon_seconds=seconds),
        scenario=msgspec.structs.replace(config.scenario, horizon_seconds=seconds),
    )
