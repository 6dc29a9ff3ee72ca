"""Every action has one JSON form, and a wrong one is answered with key, value and what would be right."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.actuators import (
    ENTRIES,
    CpuPressure,
    Entry,
    NetworkDelay,
    Scale,
    SetResources,
    check_target,
    parse_action,
    to_json,
)
from otel_control_gym.actuators.catalogue import parameters_of
from otel_control_gym.engine.errors import InvalidAction
from otel_control_gym.engine.settings import ServiceConfiguration


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.type)
def test_each_example_parses_and_comes_back(entry: Entry) -> None:
    action = parse_action(entry.example)
    assert isinstance(action, entry.action)
    assert to_json(action) == entry.example
    assert json.loads(json.dumps(to_json(action))) == entry.example


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.type)
def test_each_number_has_a_unit_and_bounds(entry: Entry) -> None:
    for parameter in entry.parameters:
        for schema in parameter.schema.get("anyOf", [parameter.schema]):
            if schema.get("type") in ("integer", "number"):
                assert schema["unit"]
                assert "maximum" in schema


@given(st.integers())
def test_replicas_are_accepted_within_their_bounds_and_nowhere_else(replicas: int) -> None:
    mapping = {"type": "scale", "target": "cart", "replicas": replicas}
    if 0 <= replicas <= 20:
        assert parse_action(mapping) == Scale("cart", replicas=replicas)
    else:
        with pytest.raises(InvalidAction, match="from 0 to 20 pods"):
            parse_action(mapping)


@pytest.mark.parametrize(
    ("mapping", "key", "says"),
    [
        ({}, "type", "accepted: cpu_pressure"),
        ({"type": "scal"}, "type", "did you mean 'scale'?"),
        ({"type": "scale", "target": "cart", "replcas": 3}, "replcas", "did you mean 'replicas'?"),
        ({"type": "scale", "target": "cart"}, "replicas", "is missing"),
        ({"type": "scale", "target": "cart", "replicas": "3"}, "replicas", "got `str`"),
        ({"type": "scale", "target": "cart", "replicas": 3, "duration_seconds": 0}, "duration_seconds", "from 1"),
        ({"type": "restart", "target": "cart", "duration_seconds": 5}, "duration_seconds", "no such key"),
        ({"type": "set_resources", "target": "cart"}, "type", "changes nothing"),
        (
            {"type": "set_resources", "target": "cart", "cpu_request_cores": 2.0, "cpu_limit_cores": 1.0},
            "cpu_request_cores",
            "exceeds cpu_limit_cores = 1.0",
        ),
        ({"type": "set_workload", "users": 0}, "users", "from 1 to 10000 users"),
        ({"type": "cpu_pressure", "target": "cart", "intensity": "high"}, "intensity", "mild, severe, visible, zero"),
        ({"type": "cpu_pressure", "target": "cart", "intensity": "mild", "workers": 2}, "workers", "excludes"),
        ({"type": "network_delay", "target": "cart"}, "target", "source->target"),
    ],
)
def test_what_is_wrong_is_named(mapping: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(InvalidAction) as caught:
        parse_action(mapping)
    assert caught.value.key == key
    assert says in str(caught.value)


@pytest.mark.parametrize("action", [Scale("crt", replicas=1), NetworkDelay("cart->frontend")])
def test_unknown_services_and_edges_are_the_caller_s_mistake(action: Any, services: ServiceConfiguration) -> None:
    with pytest.raises(InvalidAction, match="has no such"):
        check_target(action, services)


@pytest.mark.parametrize(
    ("intensity", "workers", "load_percent"), [("zero", 2, 0), ("mild", 2, 38), ("visible", 2, 100), ("severe", 8, 100)]
)
def test_words_become_numbers_by_the_declared_limit(
    services: ServiceConfiguration, intensity: Any, workers: int, load_percent: int
) -> None:
    assert parameters_of(CpuPressure("frontend", intensity=intensity), services) == {  # 1.5 cores
        "intensity": intensity, "workers": workers, "load_percent": load_percent, "persistence": "workload",
    }  # fmt: skip


def test_numbers_stand_for_themselves(services: ServiceConfiguration) -> None:
    delay = parameters_of(NetworkDelay("frontend->cart", latency_ms=33), services)
    assert (delay["intensity"], delay["latency_ms"], delay["jitter_ms"]) == (None, 33, 0)
    assert parameters_of(SetResources("cart", cpu_limit_cores=0.3), services) == {"cpu_limit_cores": 0.3}
