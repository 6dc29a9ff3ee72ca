"""Deciders over the gym API, and the loop that lets one play an episode. Nothing here knows a stand, a collector or the log."""

from __future__ import annotations

from otel_control_gym.policies.human_like import HumanLikePolicy
from otel_control_gym.policies.naming import policy_of
from otel_control_gym.policies.playing import Beat, Played, play
from otel_control_gym.policies.random_draws import RandomPolicy
from otel_control_gym.policies.scripted import BlindPolicy, Choice, Policy, ScriptedPolicy

__all__ = (
    "Beat",
    "BlindPolicy",
    "Choice",
    "HumanLikePolicy",
    "Played",
    "Policy",
    "RandomPolicy",
    "ScriptedPolicy",
    "play",
    "policy_of",
)
