"""What was logged of an action makes the same request again."""

from __future__ import annotations

from typing import Any

import pytest

import otel_control_gym as ocg
from otel_control_gym.actuators import ENTRIES, Entry, parse_action, replayed
from otel_control_gym.actuators.resolution import Resolved, resolve
from otel_control_gym.engine.clock import SECOND

VARIANTS: tuple[dict[str, Any], ...] = (
    {"type": "scale", "target": "frontend", "intensity": "visible"},
    {"type": "cpu_pressure", "target": "frontend", "workers": 2},
    {"type": "cpu_pressure", "target": "frontend", "intensity": "zero", "duration": "transient"},
    {"type": "dependency_outage", "target": "valkey-cart", "latency_ms": 200},
    {"type": "pod_kill", "target": "cart", "intensity": "severe"},
    {"type": "bad_config", "target": "checkout->cart", "intensity": "zero"},
    {"type": "set_workload", "profile": "steady"},
    {"type": "set_workload", "users": 20, "spawn_rate_per_s": 2.5, "mix": {"browse": 2.0}},
    {"type": "set_autoscaler", "target": "frontend", "remove": True},
)


def request(form: dict[str, Any], configuration: str) -> Resolved:
    return resolve(parse_action(form), ocg.resolve(configuration).public)


def check(form: dict[str, Any], configuration: str) -> None:
    first = request(form, configuration)
    seconds = None if first.duration_ns is None else first.duration_ns / SECOND
    again = request(replayed(form["type"], first.target, first.parameters, seconds), configuration)
    for said in ("target", "parameters", "duration_ns", "root_cause_kind", "expected_symptoms"):
        assert getattr(again, said) == getattr(first, said), said


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.type)
def test_the_request_of_each_example_is_made_again(entry: Entry) -> None:
    check(entry.example, entry.configuration)


@pytest.mark.parametrize("form", VARIANTS, ids=str)
def test_words_and_numbers_are_not_given_both(form: dict[str, Any]) -> None:
    check(form, "small-core")
