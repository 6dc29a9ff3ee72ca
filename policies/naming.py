"""A run's configuration ➜ the policy that its scenario names."""

from __future__ import annotations

from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.policies.human_like import HumanLikePolicy
from otel_control_gym.policies.random_draws import RandomPolicy
from otel_control_gym.policies.scripted import Policy, ScriptedPolicy

__all__ = ("policy_of",)


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
