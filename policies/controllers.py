"""A controller's name ➜ a fresh policy for an episode.

In: what a policy may know of the run (`RunSettings`), a menu of actions, a seed of the policy's own. Out: a policy. `CONTROLLERS` has those
that need nothing else; `package.module:function` names one of somebody else's, a function with the same signature. The oracle (which needs
environments) and the model-predictive one (which needs a model) are made by whoever has those.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from otel_control_gym.engine.errors import UsageError, nearest
from otel_control_gym.engine.settings import RunSettings, ServiceConfiguration
from otel_control_gym.policies.foreign import made_by
from otel_control_gym.policies.random_draws import RandomPolicy
from otel_control_gym.policies.rules import (
    ClusterAutoscaler,
    RestartOnError,
    RollbackOnBadRollout,
    ThresholdAutoscaler,
)
from otel_control_gym.policies.scripted import Policy, ScriptedPolicy, WaitingPolicy

__all__ = (
    "CONTROLLERS",
    "Controller",
    "Menu",
    "controller",
    "default_menu",
    "is_entry_point",
    "scaled_by",
    "touchable",
)

Menu: TypeAlias = Sequence[Mapping[str, Any]]
Controller: TypeAlias = Callable[[RunSettings, Menu, int], Policy | WaitingPolicy]

_DRAW_EVERY_SECONDS = 120  #: a random action needs time to show what it does


def controller(name: str) -> Controller:
    """Return what makes the named controller: one of `CONTROLLERS`, or an entry point `package.module:function`.

    Raises: UsageError: there is no such controller, or the entry point can't be imported or called.
    """
    if name in CONTROLLERS:
        return CONTROLLERS[name]
    if not is_entry_point(name):
        raise UsageError(
            f"no controller is called {name!r}\n  {nearest(name, CONTROLLERS)}; or package.module:function for one of yours"
        )
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"policy {name!r} can't be imported: {error}\n"
            "  give package.module:function of an installed package, or put its folder on PYTHONPATH"
        ) from error
    if not callable(found):
        raise UsageError(
            f"policy {name!r} is no function\n  it must take (settings, menu, seed) and return an object with `decide`"
        )
    return made_by(name, found)


def is_entry_point(name: str) -> bool:
    """Return whether a name is meant as `package.module:function`."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def touchable(services: ServiceConfiguration) -> tuple[str, ...]:
    """Return the services that ordinary actions may touch, in the order of the configuration."""
    return tuple(
        name
        for name, service in services.services.items()
        if service.kind == "service" and not service.stateful and not service.protected
    )


def default_menu(services: ServiceConfiguration) -> tuple[dict[str, Any], ...]:
    """Return actions on the entry and what it calls: two more replicas, a restart, a rollback of each; at most 18."""
    called = [edge.target for edge in services.edges if edge.source == services.entry]
    near = [name for name in dict.fromkeys((services.entry, *called)) if name in touchable(services)]
    menu: list[dict[str, Any]] = []
    for name in near[:6]:
        menu += [
            {"type": "scale", "target": name, "replicas": services.services[name].replicas + 2},
            {"type": "restart", "target": name},
            {"type": "rollback_config", "target": name},
        ]
    return tuple(menu)


def scaled_by(menu: Menu) -> tuple[str, ...]:
    """Return the services that a menu scales, in its order."""
    return tuple(dict.fromkeys(str(action["target"]) for action in menu if action["type"] == "scale"))


def _noop(settings: RunSettings, menu: Menu, seed: int) -> Policy:  # noqa: ARG001
    return ScriptedPolicy((), version="noop")


def _random(settings: RunSettings, menu: Menu, seed: int) -> Policy:
    moments = range(_DRAW_EVERY_SECONDS, settings.horizon_seconds, _DRAW_EVERY_SECONDS)
    return RandomPolicy([dict(action) for action in menu], moments, seed=seed)


def _threshold(settings: RunSettings, menu: Menu, seed: int) -> Policy:  # noqa: ARG001
    return ThresholdAutoscaler(touchable(settings.services))


def _hpa(settings: RunSettings, menu: Menu, seed: int) -> Policy:  # noqa: ARG001
    return ClusterAutoscaler(scaled_by(menu))


def _restart(settings: RunSettings, menu: Menu, seed: int) -> Policy:  # noqa: ARG001
    return RestartOnError(touchable(settings.services))


def _rollback(settings: RunSettings, menu: Menu, seed: int) -> Policy:  # noqa: ARG001
    objective = settings.reward.objective
    return RollbackOnBadRollout(
        touchable(settings.services),
        entry=objective.service or settings.services.entry,
        error_ratio=1.0 - objective.availability,
        latency_ms=objective.latency_ms,
    )


CONTROLLERS: Mapping[str, Controller] = {
    "noop": _noop,
    "random": _random,
    "threshold": _threshold,
    "hpa": _hpa,
    "restart-on-error": _restart,
    "rollback-on-bad-rollout": _rollback,
}
"""Name -> what makes it."""
