"""The last check before anything is made: every action that a scenario plans, against the catalogue of actions."""

from __future__ import annotations

from otel_control_gym.actuators import check_target, parse_action
from otel_control_gym.engine.errors import ConfigurationError, InvalidAction
from otel_control_gym.engine.settings import RunConfig

__all__ = ("checked",)


def checked(config: RunConfig) -> RunConfig:
    """Return the configuration, after its planned actions and interventions were parsed.

    Raises: ConfigurationError: one of them isn't in the catalogue, or a parameter is out of bounds.
    """
    scenario = config.scenario
    plans = (("interventions", scenario.interventions), ("policy.actions", scenario.policy.actions))
    for name, plan in plans:
        for number, planned in enumerate(plan):
            try:
                check_target(parse_action(planned.action), config.public.services)
            except InvalidAction as error:
                _, _, remedy = str(error).partition("\n  ")
                raise ConfigurationError(
                    file=f"scenario {scenario.name!r}",
                    key=f"{name}[{number}].action.{error.key}",
                    found=error.found,
                    problem=str(error).partition("\n")[0].rpartition(": ")[2],
                    remedy=remedy,
                ) from error
    return config
