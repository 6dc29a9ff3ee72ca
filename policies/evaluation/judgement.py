"""The steps of an episode ➜ what it came to: return, recovery, time out of the objective, cost, unsafe actions.

In: reward and raw components of each control step, as `Env.step` told them, and the run's public settings. Out: a `Judgement`. All of it is
public: recovery counts from the first step that missed the objective, whoever or whatever made it miss.

Why this is more than sums:
- **No episode ends early.** The one that reaches its goal may lose it again; the one in an emergency can't escape what follows.
- **From an emergency on the worst is charged**: what users get is taken for nothing until the horizon, whatever comes later; what is
  spent, changed and refused is charged as it was.
- **A recovery that wasn't seen is censored**, not left out and not taken for the horizon. Who never missed the objective took 0 s.

Pure. Upstream: `episodes`. Downstream: `scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import RunSettings

__all__ = ("EpisodeResult", "Judgement", "LivedStep", "check_judgeable", "judge")


class LivedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A control step that is over."""

    reward: float
    components: dict[str, float]  #: raw, as in `info["reward_components"]`
    action: dict[str, Any]  #: that was asked for
    status: str  #: of that action, at the end of the step


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What an episode came to."""

    total_return: float  #: sum of the rewards, from an emergency on the worst
    raw_return: float  #: sum of the rewards as they were
    breached: bool  #: the objective was missed at least once
    recovered: bool  #: the objective held for the goal's time after the first miss, or was never missed
    time_to_recovery_s: (
        float  #: from the first miss to the begin of that time; how long none was seen, if not `recovered`
    )
    violation_minutes: float  #: time of the steps that missed the objective
    cost: float  #: cost units
    stability: float  #: restarts, replicas and configurations changed
    unsafe_actions: int  #: that the precheck rejected
    actions: int  #: other than `noop`
    emergency_s: float | None  #: of control, when an emergency was reached; null: never


class EpisodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `episodes.parquet`: who played what, and what it came to."""

    evaluation: str
    policy: str
    policy_version: str
    policy_information: Literal["public", "privileged"]
    scenario: str
    family_id: str  #: scenario and seed: the same for all policies
    service_config: str
    seed: int
    steps: int
    done_reason: str
    judgement: Judgement
    deeds: tuple[tuple[int, dict[str, Any], str], ...]  #: step, action other than `noop`, its status


def check_judgeable(settings: RunSettings, label: str) -> None:
    """Refuse what can't be judged step by step.

    Raises: ConfigurationError: a step isn't one reward bucket, or the episode has no goal or emergency to judge by, or ends by one.
    """
    granularity, rules = settings.granularity, settings.episode
    if granularity.control_step_seconds != granularity.reward_bucket_seconds:
        raise ConfigurationError(
            file=label,
            key="granularity.control_step_seconds",
            found=granularity.control_step_seconds,
            problem=f"isn't reward_bucket_seconds = {granularity.reward_bucket_seconds}, so a step can't be judged by its reward",
            remedy="use a granularity in which both are the same",
        )
    if rules.goal is None or rules.emergency is None or not rules.runs_on:
        raise ConfigurationError(
            file=label,
            key="episode",
            found=rules.name,
            problem="has no goal, no emergency, or ends by one of them",
            remedy="use 'evaluation', or a file with goal, emergency and runs_on: true",
        )


def judge(steps: Sequence[LivedStep], settings: RunSettings) -> Judgement:
    """Return what an episode came to; steps that are missing before the horizon (a lost stand) count as the worst."""
    assert settings.episode.goal is not None, "see `check_judgeable`"
    seconds = settings.granularity.control_step_seconds
    lost = settings.horizon_seconds // seconds - len(steps)
    steps = [*steps, *[_lost_step(settings)] * lost]
    missed = [step.components["recovery_time"] > 0 for step in steps]
    emergency = _emergency(steps, settings)
    recovered, recovery_steps = _recovery(missed, _in_steps(settings.episode.goal.hold_seconds, seconds))
    rewards = [
        step.reward if emergency is None or number < emergency else _worst(step, settings)
        for number, step in enumerate(steps)
    ]
    return Judgement(
        total_return=sum(rewards),
        raw_return=sum(step.reward for step in steps),
        breached=any(missed),
        recovered=recovered,
        time_to_recovery_s=float(recovery_steps * seconds),
        violation_minutes=sum(missed) * seconds / 60,
        cost=_total(steps, "resource_cost"),
        stability=_total(steps, "stability"),
        unsafe_actions=round(_total(steps, "unsafe_action")),
        actions=sum(step.action["type"] != "noop" for step in steps),
        emergency_s=None if emergency is None else float(emergency * seconds),
    )


def _emergency(steps: Sequence[LivedStep], settings: RunSettings) -> int | None:
    """Return the first step after availability was below the floor for the emergency's time, or None."""
    rule = settings.episode.emergency
    assert rule is not None
    allowed = max(1e-9, 1.0 - settings.reward.objective.availability)
    needed = _in_steps(rule.for_seconds, settings.granularity.control_step_seconds)
    low = 0
    for number, step in enumerate(steps):
        availability = 1.0 - step.components["error_budget_burn"] * allowed
        low = low + 1 if availability < rule.availability_below else 0
        if low >= needed:
            return number + 1
    return None


def _recovery(missed: Sequence[bool], hold: int) -> tuple[bool, int]:
    """Return whether the objective held for `hold` steps after it was first missed, and how many steps after that miss it began to.

    Where it never did: for how many steps that is known, which a stretch at the end that is too short doesn't add to.
    """
    if not any(missed):
        return True, 0
    first, kept = missed.index(True), 0
    for number in range(first, len(missed)):
        kept = 0 if missed[number] else kept + 1
        if kept >= hold:
            return True, number + 1 - kept - first
    return False, len(missed) - kept - first


def _worst(step: LivedStep, settings: RunSettings) -> float:
    """Return the reward of a step in which users got nothing, with what it spent, changed and was refused."""
    components = {**step.components, **_nothing(settings)}
    return sum(weight * components.get(name, 0.0) for name, weight in settings.reward.weights.items())


def _lost_step(settings: RunSettings) -> LivedStep:
    nothing = LivedStep(reward=0.0, components=_nothing(settings), action={"type": "noop"}, status="")
    return msgspec.structs.replace(nothing, reward=_worst(nothing, settings))


def _nothing(settings: RunSettings) -> dict[str, float]:
    """Return the components that tell what users got, where they got nothing."""
    return {
        "slo_satisfaction": 0.0,
        "error_budget_burn": 1.0 / max(1e-9, 1.0 - settings.reward.objective.availability),
        "recovery_time": float(settings.granularity.reward_bucket_seconds),
    }


def _total(steps: Sequence[LivedStep], component: str) -> float:
    return sum(step.components.get(component, 0.0) for step in steps)


def _in_steps(span_seconds: int, step_seconds: int) -> int:
    return max(1, -(-span_seconds // step_seconds))
