"""Deciders over the gym API, and the loop that lets one play an episode. Nothing here knows a stand, a collector or the log."""

from __future__ import annotations

from otel_control_gym.policies.playing import Beat, Played, play
from otel_control_gym.policies.scripted import Policy, ScriptedPolicy, policy_of

__all__ = ("Beat", "Played", "Policy", "ScriptedPolicy", "play", "policy_of")
