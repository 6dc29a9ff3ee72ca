"""A campaign's name or file ➜ its plan, checked: every configuration, workload and type that it names is there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec

from otel_control_gym.engine.campaigns.before_after import LEAST_WINDOWS
from otel_control_gym.engine.campaigns.design import FORESIGHT_SECONDS, make_plan
from otel_control_gym.engine.campaigns.plans import CampaignPlan, PlannedRun
from otel_control_gym.engine.campaigns.settings import CampaignSettings, ClusterStand, Length
from otel_control_gym.engine.campaigns.splits import Side, make_splits, sides_by_family
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.configuration_files import is_path, load, load_services, packaged_names
from otel_control_gym.engine.errors import ConfigurationError, UsageError, nearest
from otel_control_gym.engine.settings import Granularity, RunConfig, RunIdentity, Workload

__all__ = ("campaign_names", "configurations", "granularity_of", "load_plan")


def campaign_names() -> tuple[str, ...]:
    """Return the names of the packaged campaigns."""
    return packaged_names("campaigns")


def load_plan(reference: str | Path, *, only: int | None = None) -> CampaignPlan:
    """Return the plan of a campaign.

    Args:
        reference: name of a packaged campaign, or the path of a YAML file.
        only: how many families of each stratum, at most; for trying a campaign out.

    Raises:
        UsageError: there is no such file. ConfigurationError: it, or what it names, can't be run; says where and what would be right.
    """
    settings, label = load("campaigns", _as_path(reference), CampaignSettings)
    if only is not None:
        if only < 1:
            raise UsageError(f"--only {only}: must be at least 1")
        strata = {stratum: min(count, only) for stratum, count in settings.strata.items()}
        settings = msgspec.structs.replace(settings, strata=strata, bounds=None)
    _check(settings, label)
    application = cache(lambda name: load_services(name)[0])
    workload = cache(lambda name: load("workloads", name, Workload)[0])
    return make_plan(settings, application=application, workload=workload, granularity=granularity_of(settings))


def granularity_of(settings: CampaignSettings) -> Granularity:
    """Return the granularity of a campaign's runs.

    Raises: UsageError: there is no such file. ConfigurationError: it can't be read.
    """
    return load("granularity", settings.granularity, Granularity)[0]


def configurations(plan: CampaignPlan, runs: Iterable[PlannedRun]) -> Iterator[RunConfig]:
    """Yield the effective configuration of each of a plan's `runs`, complete: whoever gets it needs no files.

    Raises: ConfigurationError: one can't be run.
    """
    sides = sides_by_family(make_splits(plan.runs))
    for run in runs:
        yield _configured(plan, run, sides[run.family_id])


def _configured(plan: CampaignPlan, run: PlannedRun, sides: Mapping[str, Side]) -> RunConfig:
    config = resolve(run.scenario, seed=run.seed)
    return msgspec.structs.replace(
        config,
        public=msgspec.structs.replace(
            config.public,
            campaign=plan.settings.name,
            stand=plan.stand,
        ),
        identity=RunIdentity(
            scenario_id=run.key,
            stratum=run.stratum,
            family_id=run.family_id,
            pair_id=run.pair_id,
            split_ids=dict(sides),
        ),
    )


def _as_path(reference: str | Path) -> str:
    if isinstance(reference, Path) or is_path(str(reference)):
        return str(Path(reference).expanduser().absolute())
    return reference


def _check(settings: CampaignSettings, label: str) -> None:
    from otel_control_gym.actuators.catalogue import ENTRY_BY_TYPE

    actions = [kind for kind, entry in ENTRY_BY_TYPE.items() if entry.action_class == "action" and kind != "noop"]
    interventions = [kind for kind, entry in ENTRY_BY_TYPE.items() if entry.action_class == "intervention"]
    _known(label, "actions", settings.actions, actions, "there is no such action")
    _known(label, "interventions", settings.interventions, interventions, "there is no such intervention")
    for key in ("configurations", "workloads", "actions", "interventions", "intensities"):
        found = getattr(settings, key)
        if not found:
            raise ConfigurationError(file=label, key=key, found=[], problem="empty", remedy="name at least one")
        if len(set(found)) != len(found):
            raise ConfigurationError(
                file=label, key=key, found=list(found), problem="something is named twice", remedy="name each once"
            )
    for stratum, count in settings.strata.items():
        if count < 0:
            raise ConfigurationError(
                file=label, key=f"strata.{stratum}", found=count, problem="below 0", remedy="use 0 or more"
            )
    length = settings.length
    if settings.cluster is not None and len(settings.configurations) > 1:
        raise ConfigurationError(
            file=label,
            key="configurations",
            found=list(settings.configurations),
            problem="a stand has one application installed, and any stand plays any run",
            remedy="use one configuration, and a campaign for each",
        )
    if settings.cluster is not None:
        _check_cluster(settings.cluster, length, LEAST_WINDOWS * granularity_of(settings).control_step_seconds, label)
    low, high = length.long_seconds
    if not (0 < length.short_seconds <= low <= high and 0 <= length.long_share <= 1):
        raise ConfigurationError(
            file=label,
            key="length",
            found=msgspec.to_builtins(length),
            problem="not short_seconds <= long_seconds[0] <= long_seconds[1] with a share from 0 to 1",
            remedy="use e.g. {short_seconds: 600, long_seconds: [2700, 3600], long_share: 0.2}",
        )


def _check_cluster(cluster: ClusterStand, length: Length, least: int, label: str) -> None:
    if cluster.reset == "reinstall":
        raise ConfigurationError(
            file=label,
            key="cluster.reset",
            found=cluster.reset,
            problem="a run can't install its stand anew",
            remedy="use soft or data; `ocg stand reset --level reinstall` before the campaign",
        )
    if cluster.reset_seconds < 0:
        raise ConfigurationError(
            file=label,
            key="cluster.reset_seconds",
            found=cluster.reset_seconds,
            problem="below 0",
            remedy="use 0 or more",
        )
    room = min(length.short_seconds // 3, length.short_seconds - FORESIGHT_SECONDS - 120)
    if not least <= cluster.before_seconds <= room:
        raise ConfigurationError(
            file=label,
            key="cluster.before_seconds",
            found=cluster.before_seconds,
            problem=f"runs of {length.short_seconds} s have up to {max(0, room)} s for it, and {least} s are the least to compare with",
            remedy=f"use {least} or more, and a length.short_seconds of three times as much that is 420 s more than it, too",
        )


def _known(label: str, key: str, found: Sequence[str], accepted: Collection[str], problem: str) -> None:
    for number, name in enumerate(found):
        if name not in accepted:
            raise ConfigurationError(
                file=label, key=f"{key}[{number}]", found=name, problem=problem, remedy=nearest(name, accepted)
            )
