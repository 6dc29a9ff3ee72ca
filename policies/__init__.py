"""Deciders over the gym API, and the loop that lets one play an episode. Nothing here knows a stand, a collector or the log."""

from __future__ import annotations

from otel_control_gym.policies.controllers import CONTROLLERS, controller, default_menu
from otel_control_gym.policies.human_like import HumanLikePolicy
from otel_control_gym.policies.naming import is_foreign, opened_policy, policy_of
from otel_control_gym.policies.oracle import Oracle
from otel_control_gym.policies.planner import ModelPredictivePolicy, ReturnModel
from otel_control_gym.policies.playing import Beat, Played, play
from otel_control_gym.policies.random_draws import RandomPolicy
from otel_control_gym.policies.rules import (
    ClusterAutoscaler,
    RestartOnError,
    RollbackOnBadRollout,
    ThresholdAutoscaler,
    Thresholds,
)
from otel_control_gym.policies.scripted import BlindPolicy, Choice, Policy, ScriptedPolicy, WaitingPolicy

__all__ = (
    "CONTROLLERS",
    "Beat",
    "BlindPolicy",
    "Choice",
    "ClusterAutoscaler",
    "HumanLikePolicy",
    "ModelPredictivePolicy",
    "Oracle",
    "Played",
    "Policy",
    "RandomPolicy",
    "RestartOnError",
    "ReturnModel",
    "RollbackOnBadRollout",
    "ScriptedPolicy",
    "ThresholdAutoscaler",
    "Thresholds",
    "WaitingPolicy",
    "controller",
    "default_menu",
    "is_foreign",
    "opened_policy",
    "play",
    "policy_of",
)
