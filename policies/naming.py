"""A run's configuration ➜ the policy that its scenario names, or that somebody names instead."""

from __future__ import annotations

from otel_control_gym.engine.randomness import derive_seed
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.policies.controllers import controller, default_menu
from otel_control_gym.policies.human_like import HumanLikePolicy
from otel_control_gym.policies.random_draws import RandomPolicy
from otel_control_gym.policies.scripted import Policy, ScriptedPolicy, WaitingPolicy

__all__ = ("named_policy", "policy_of")


def policy_of(config: RunConfig) -> Policy:
    """Return a fresh policy for an episode of this configuration; `noop` is a script without actions."""
    settings, objective = config.scenario.policy, config.public.reward.objective
    match settings.name:
        case "random":
            return RandomPolicy(settings.menu, settings.decide_at_seconds, seed=config.seed)
        case "human_like":
            return HumanLikePolicy(
                settings.menu,
                settings.decide_at_seconds,
                entry=objective.service or config.public.services.entry,
                latency_ms=objective.latency_ms,
                error_ratio=1.0 - objective.availability,
                seed=config.seed,
            )
        case "noop" | "scripted":
            return ScriptedPolicy(settings.actions, version=settings.name, information=settings.information)


def named_policy(name: str, config: RunConfig) -> Policy | WaitingPolicy:
    """Return a fresh controller (`policies.controllers`) for an episode of this configuration.

    It chooses from the menu of the scenario's policy, or where that has none from `default_menu`.

    Raises: UsageError: there is no such controller.
    """
    menu = config.scenario.policy.menu or default_menu(config.public.services)
    return controller(name)(config.public, menu, derive_seed(config.seed, "policy"))
