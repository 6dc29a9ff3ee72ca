"""An evaluation's name or file, and a number of seeds ➜ the episodes to be played, each with its complete configuration.

In: `EvaluationSettings`. Out: `Case`s: a scenario from a seed, for all policies the same. Seeds of tests and of tuning never meet: what
is tuned (the calibrated autoscaler) is tuned on `training_cases`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from otel_control_gym.actuators import check_target, parse_action
from otel_control_gym.engine.assembly import checked
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.configuration_files import is_path, load, packaged_names
from otel_control_gym.engine.errors import ConfigurationError, InvalidAction, UsageError
from otel_control_gym.engine.settings import RunConfig, RunIdentity, Scenario
from otel_control_gym.policies.evaluation.judgement import check_judgeable
from otel_control_gym.policies.evaluation.settings import EvaluationSettings, Situation

__all__ = (
    "FIRST_TRAINING_SEED",
    "Case",
    "cases_of",
    "check_on_cluster",
    "evaluation_names",
    "load_evaluation",
    "on_cluster",
    "training_cases",
)

FIRST_TRAINING_SEED = 1_000_001  #: seeds of tests are 1, 2, 3, …


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario from a seed."""

    scenario: str
    family_id: str
    config: RunConfig
    menu: tuple[dict[str, Any], ...]


def evaluation_names() -> tuple[str, ...]:
    """Return the names of the packaged evaluations."""
    return packaged_names("evaluations")


def load_evaluation(reference: str | Path) -> EvaluationSettings:
    """Return the evaluation that a name or the path of a YAML file stands for, checked: every scenario of it can be played.

    Raises: UsageError: there is no such file. ConfigurationError: it, or what it names, can't be run; says where and what would be right.
    """
    named = isinstance(reference, Path) or is_path(str(reference))
    path = str(Path(reference).expanduser().absolute()) if named else str(reference)
    settings, label = load("evaluations", path, EvaluationSettings)
    names = [situation.name for situation in settings.scenarios]
    if not names or len(set(names)) != len(names):
        raise ConfigurationError(
            file=label,
            key="scenarios",
            found=names,
            problem="empty, or a name is there twice",
            remedy="give each scenario a name of its own",
        )
    for case in cases_of(settings, 1):
        check_judgeable(case.config.public, label)
    return settings


def cases_of(settings: EvaluationSettings, seeds: int) -> list[Case]:
    """Return the cases of a test, by scenario and seed: `seeds` of each scenario.

    Raises: ConfigurationError: a scenario can't be run, or an action of the menu can't be in it.
    """
    return _cases(settings, range(1, seeds + 1))


def training_cases(settings: EvaluationSettings, seeds: int) -> list[Case]:
    """Return cases of the same scenarios, from other seeds, to tune on."""
    return _cases(settings, range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + seeds))


def on_cluster(case: Case) -> Case:
    """Return the case as it is played on a cluster."""
    public = msgspec.structs.replace(case.config.public, stand="cluster")
    return msgspec.structs.replace(case, config=msgspec.structs.replace(case.config, public=public))


def check_on_cluster(settings: EvaluationSettings, policies: Sequence[str]) -> None:
    """Refuse what can't be played on one cluster.

    Raises: UsageError: a policy lives futures, or the scenarios are of several applications.
    """
    if "oracle" in policies:
        raise UsageError("policy 'oracle' lives futures of a twin, and a cluster has one past\n  leave it out")
    applications = sorted({situation.services for situation in settings.scenarios})
    if len(applications) > 1:
        raise UsageError(
            f"evaluation {settings.name!r} has scenarios of {' and '.join(applications)}, and a cluster has one application\n"
            "  write a file with the scenarios of the one that is installed: --scenarios FILE"
        )


def _cases(settings: EvaluationSettings, seeds: Sequence[int]) -> list[Case]:
    return [
        _case(settings, config, seed)
        for config in (_configured(settings, situation) for situation in settings.scenarios)
        for seed in seeds
    ]


def _configured(settings: EvaluationSettings, situation: Situation) -> RunConfig:
    """Return the configuration of a scenario, checked, from no particular seed."""
    scenario = Scenario(
        name=situation.name,
        description=situation.description,
        services=situation.services,
        workload=situation.workload,
        granularity=settings.granularity,
        reward=settings.reward,
        episode=settings.episode,
        horizon_seconds=settings.horizon_seconds,
        interventions=situation.interventions,
    )
    config = checked(resolve(scenario))
    _check_menu(settings, config)
    return config


def _case(settings: EvaluationSettings, config: RunConfig, seed: int) -> Case:
    name = config.scenario.name
    family = f"{settings.name}-{name}-{seed}"
    return Case(
        scenario=name,
        family_id=family,
        config=msgspec.structs.replace(
            config,
            seed=seed,
            public=msgspec.structs.replace(config.public, campaign=f"evaluation-{settings.name}"),
            identity=RunIdentity(scenario_id=name, family_id=family, stratum="evaluation"),
        ),
        menu=settings.menu,
    )


def _check_menu(settings: EvaluationSettings, config: RunConfig) -> None:
    for number, action in enumerate(settings.menu):
        key = f"menu[{number}]"
        try:
            check_target(parse_action(dict(action)), config.public.services)
        except InvalidAction as error:
            what, _, remedy = str(error).partition("\n  ")
            raise ConfigurationError(
                file=f"evaluation {settings.name!r}",
                key=f"{key}.{error.key}",
                found=error.found,
                problem=f"can't be in scenario {config.scenario.name!r}: {what.rpartition(': ')[2]}",
                remedy=remedy,
            ) from error
        if action["type"] in config.public.episode.excluded_actions:
            raise ConfigurationError(
                file=f"evaluation {settings.name!r}",
                key=f"{key}.type",
                found=action["type"],
                problem=f"is outside the action space of episode {config.public.episode.name!r}",
                remedy="leave it out",
            )
