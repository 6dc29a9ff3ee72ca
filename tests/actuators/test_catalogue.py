"""Every action has one JSON form, and a wrong one is answered with key, value and what would be right."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_control_gym as ocg
from otel_control_gym.actuators import (
    ENTRIES,
    CpuPressure,
    Entry,
    NetworkDelay,
    Scale,
    SetResources,
    action_schema,
    check_target,
    parse_action,
    to_json,
)
from otel_control_gym.actuators.intensities import duration_class
from otel_control_gym.actuators.parsing import STRENGTHS
from otel_control_gym.actuators.resolution import parameters_of, resolve
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import InvalidAction
from otel_control_gym.engine.settings import RunSettings, ServiceConfiguration


def settings_of(name: str) -> RunSettings:
    """Return the public settings of a run of a packaged configuration."""
    return ocg.resolve(name).public


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
            for rule in (schema, schema.get("additionalProperties")):
                if isinstance(rule, dict) and rule.get("type") in ("integer", "number"):
                    assert rule["unit"]
                    assert "maximum" in rule


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.type)
def test_each_example_is_possible_on_the_configuration_that_it_names(entry: Entry) -> None:
    check_target(parse_action(entry.example), settings_of(entry.configuration).services)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.graded], ids=lambda entry: entry.type)
def test_each_word_for_a_strength_is_recorded_with_its_numbers(entry: Entry) -> None:
    services = settings_of(entry.configuration).services
    strengths = ("intensity", *STRENGTHS)
    example = {key: value for key, value in entry.example.items() if key not in strengths}
    seen = []
    for word in ("zero", "mild", "visible", "severe"):
        found = parameters_of(parse_action({**example, "intensity": word}), services)
        assert found.pop("intensity") == word
        seen.append(found)
    if entry.type == "delete_pod":  # of one declared pod, any share is that one
        assert [found["count"] for found in seen] == [0, 1, 1, 1]
    else:
        assert all(before != after for before, after in pairwise(seen)), "two words mean the same"


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.timed], ids=lambda entry: entry.type)
@pytest.mark.parametrize("word", ["transient", "medium", "slow_burn"])
def test_each_word_for_a_duration_is_recorded_with_its_seconds(entry: Entry, word: str) -> None:
    example = {key: value for key, value in entry.example.items() if key != "duration_seconds"}
    found = resolve(parse_action({**example, "duration": word}), settings_of(entry.configuration))
    assert found.parameters["duration_class"] == word
    assert found.duration_ns is not None
    assert duration_class(found.duration_ns / SECOND) == word, "the seconds of a word are of another class"


def test_the_json_schema_has_every_action_with_its_bounds() -> None:
    schema = action_schema()
    kinds = {definition["properties"]["type"]["enum"][0]: definition for definition in schema["$defs"].values()}
    assert set(kinds) == {entry.type for entry in ENTRIES}
    assert len(schema["anyOf"]) == len(ENTRIES)
    for entry in ENTRIES:
        assert set(entry.example) <= set(kinds[entry.type]["properties"])
        assert kinds[entry.type]["additionalProperties"] is False
    replicas = kinds["scale"]["properties"]["replicas"]["anyOf"][0]
    assert (replicas["minimum"], replicas["maximum"], replicas["unit"]) == (0, 20, "pods")


def test_symptoms_spread_to_callers_and_errors_not_along_calls_that_may_fail() -> None:
    def expected(mapping: dict[str, Any]) -> tuple[str, ...]:
        return resolve(parse_action(mapping), settings_of("small-core")).expected_symptoms

    email = expected({"type": "pod_kill", "target": "email"})  # checkout ignores when its mail fails
    assert "email:errors" in email
    assert "checkout:latency" in email
    assert "checkout:errors" not in email
    cart = expected({"type": "network_partition", "target": "checkout->cart"})
    assert "checkout->cart:errors" in cart
    assert "frontend:errors" in cart
    assert not any(symptom.startswith("cart:") for symptom in cart), "the callee is the one that feels nothing"
    assert expected({"type": "pod_kill", "target": "email", "intensity": "zero"}) == ()


@pytest.mark.parametrize(
    ("mapping", "kind"),
    [
        ({"type": "pod_kill", "target": "cart"}, "service"),
        ({"type": "cpu_pressure", "target": "postgresql"}, "dependency"),
        ({"type": "network_delay", "target": "frontend->cart"}, "edge"),
        ({"type": "feature_flag", "flag": "paymentFailure", "variant": "100%"}, "service"),
        ({"type": "set_workload", "users": 5}, "workload"),
        ({"type": "noop"}, "none"),
    ],
)
def test_the_kind_of_a_root_cause_is_the_graph_s(mapping: dict[str, Any], kind: str) -> None:
    assert resolve(parse_action(mapping), settings_of("small-core")).root_cause_kind == kind


def test_a_flag_without_an_effect_on_the_application_is_refused() -> None:
    action = parse_action({"type": "feature_flag", "flag": "adFailure", "variant": "on"})
    check_target(action, settings_of("medium-store").services)
    with pytest.raises(InvalidAction, match="no service on which it works"):
        check_target(action, settings_of("small-core").services)


def test_a_flag_s_target_is_the_service_on_which_it_works() -> None:
    action = parse_action({"type": "feature_flag", "flag": "paymentFailure", "variant": "100%"})
    assert resolve(action, settings_of("small-core")).target == "payment"


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
        ({}, "type", "accepted: bad_config, cpu_pressure"),
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
        ({"type": "scale", "target": "cart", "replicas": 2, "intensity": "mild"}, "replicas", "excludes intensity"),
        (
            {"type": "restart_loop", "target": "cart", "intensity": "mild", "every_seconds": 15},
            "every_seconds",
            "excludes",
        ),
        (
            {"type": "pod_kill", "target": "cart", "duration": "medium", "duration_seconds": 60},
            "duration_seconds",
            "excludes duration = 'medium'",
        ),
        ({"type": "pod_kill", "target": "cart", "duration": "long"}, "duration", "medium, slow_burn, transient"),
        ({"type": "delete_pod", "target": "cart", "count": 0}, "count", "deletes nothing"),
        ({"type": "set_workload"}, "type", "changes nothing"),
        ({"type": "set_workload", "users": 5, "profile": "steady"}, "users", "excludes profile"),
        ({"type": "set_workload", "users": 5, "rate_per_s": 3.0}, "users", "excludes rate_per_s"),
        ({"type": "set_autoscaler", "target": "cart"}, "type", "changes nothing"),
        ({"type": "set_autoscaler", "target": "cart", "min_replicas": 5, "max_replicas": 2}, "min_replicas", "exceeds"),
        ({"type": "set_autoscaler", "target": "cart", "remove": True, "min_replicas": 1}, "min_replicas", "excludes"),
        ({"type": "shift_traffic", "target": "cart", "version": "2"}, "weight_percent", "is missing"),
        ({"type": "rollout_config", "target": "cart", "env": {}}, "env", "a mapping"),
        ({"type": "rollout_config", "target": "cart", "env": {"1A": "x"}}, "env", "a mapping"),
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
    ("mapping", "key", "says"),
    [
        ({"type": "disable_group", "target": "adds"}, "target", "no such optional group"),
        ({"type": "dependency_outage", "target": "cart"}, "target", "is no dependency"),
        ({"type": "set_workload", "mix": {"browse": 1.0}}, "mix", "no such flow"),
        ({"type": "set_workload", "profile": "steadyy"}, "profile", "did you mean 'steady'?"),
        ({"type": "feature_flag", "flag": "cartFailure"}, "flag", "no such flag"),
    ],
)
def test_what_an_application_hasn_t_got_can_t_be_asked_for(
    services: ServiceConfiguration, mapping: dict[str, Any], key: str, says: str
) -> None:
    with pytest.raises(InvalidAction, match=re.escape(says)) as caught:
        check_target(parse_action(mapping), services)
    assert caught.value.key == key


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


@pytest.mark.parametrize(
    ("mapping", "lost"),
    [
        ({"type": "dependency_outage", "target": "valkey-cart", "mechanism": "pod_failure"}, True),
        ({"type": "dependency_outage", "target": "valkey-cart", "mechanism": "scale_to_zero"}, True),
        ({"type": "dependency_outage", "target": "valkey-cart", "mechanism": "partition"}, False),
        ({"type": "pod_kill", "target": "postgresql"}, True),
        ({"type": "pod_kill", "target": "postgresql", "intensity": "zero"}, None),
        ({"type": "pod_kill", "target": "cart"}, None),
        ({"type": "restart_loop", "target": "valkey-cart"}, True),
        ({"type": "memory_pressure", "target": "valkey-cart", "intensity": "severe"}, True),
        ({"type": "memory_pressure", "target": "valkey-cart", "intensity": "mild"}, False),
        ({"type": "network_delay", "target": "cart->valkey-cart"}, None),
    ],
)
def test_a_request_says_whether_it_costs_a_store_its_data(mapping: dict[str, Any], lost: bool | None) -> None:
    resolved = resolve(parse_action(mapping), settings_of("small-core"))
    assert resolved.parameters.get("data_lost") is lost


def test_a_route_has_no_callers_to_restart() -> None:
    shift = {"type": "shift_traffic", "target": "cart", "version": "2.2.0", "weight_percent": 50, "via": "route"}
    with pytest.raises(InvalidAction, match="excludes via = 'route'"):
        parse_action({**shift, "reconnect_callers": True})
