"""A run's configuration ➜ the policy that its scenario names, or that somebody names instead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from otel_control_gym.engine.randomness import derive_seed
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.policies.controllers import controller, default_menu, is_entry_point
from otel_control_gym.policies.human_like import HumanLikePolicy
from otel_control_gym.policies.random_draws import RandomPolicy
from otel_control_gym.policies.remote import policy_subject, remote_policy
from otel_control_gym.policies.scripted import Policy, ScriptedPolicy, WaitingPolicy

__all__ = ("is_foreign", "opened_policy", "policy_of")


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


def is_foreign(name: str) -> bool:
    """Return whether a policy is somebody else's, whose code isn't known here: `package.module:function`, or `nats:SUBJECT`."""
    return policy_subject(name) is not None or is_entry_point(name)


@asynccontextmanager
async def opened_policy(
    name: str | None, config: RunConfig, *, data_dir: Path, nats: str | None = None
) -> AsyncIterator[Policy | WaitingPolicy]:
    """Yield a fresh policy for an episode: the scenario's own, a controller, an entry point, or one in another process.

    Args:
        name: of a controller, `package.module:function`, or `nats:SUBJECT`; None for the scenario's own.
        config: of the episode. A controller chooses from the menu of the scenario's policy, or where that has none from `default_menu`.
        data_dir: its embedded broker is where one in another process is asked, unless `nats` is the URL of another.
        nats: URL of a NATS server.

    Raises: UsageError: there is no such policy. PolicyError: somebody else's can't be made, or doesn't answer.
    """
    if name is None:
        yield policy_of(config)
        return
    menu = config.scenario.policy.menu or default_menu(config.public.services)
    if (subject := policy_subject(name)) is None:
        yield controller(name)(config.public, menu, derive_seed(config.seed, "policy"))
        return
    async with remote_policy(subject, config.public, data_dir=data_dir, nats=nats, menu=menu) as policy:
        yield policy
