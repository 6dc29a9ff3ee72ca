"""A configuration that can't be run is refused before anything is made, by a sentence that says where, what, and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.configuration import as_yaml, check_duration, check_window, resolve, targets
from otel_control_gym.engine.configuration_files import packaged_names
from otel_control_gym.engine.errors import ConfigurationError, UsageError
from otel_control_gym.engine.settings import Granularity, PlannedAction, PolicySettings, RunConfig, Scenario

SCENARIO: dict[str, Any] = {"name": "mine", "horizon_seconds": 120}


def write(file: Path, document: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return file


def refused(file: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        resolve(file)
    return caught.value


@pytest.mark.parametrize("name", targets())
def test_every_packaged_target_can_be_run(name: str) -> None:
    config = resolve(name)
    assert config.public.services.services
    assert config.public.horizon_seconds == config.scenario.horizon_seconds


@pytest.mark.parametrize("name", packaged_names("granularity"))
@pytest.mark.parametrize("target", targets())
def test_every_packaged_granularity_goes_with_every_target(target: str, name: str) -> None:
    assert resolve(target, granularity=name).scenario.granularity == name


def test_scenarios_and_service_configurations_share_no_name() -> None:
    assert not set(packaged_names("scenarios")) & set(packaged_names("services"))


def test_the_effective_configuration_survives_yaml_unchanged() -> None:
    config = resolve("quickstart", seed=7)
    assert msgspec.yaml.decode(as_yaml(config).encode(), type=RunConfig) == config


def test_a_resolved_configuration_resolves_to_itself() -> None:
    config = resolve("quickstart", seed=7)
    assert resolve(config) == config


def test_overrides_replace_the_part_and_its_name_in_the_scenario(tmp_path: Path) -> None:
    mine = write(tmp_path / "two.yaml", {"name": "two-users", "users": 2})
    config = resolve("quickstart", workload=str(mine), granularity="fine", seed=3, horizon_seconds=540)
    assert (config.workload.users, config.scenario.workload) == (2, "two-users")
    assert config.public.granularity.control_step_seconds == 10
    assert config.seed == 3
    assert config.public.horizon_seconds == config.scenario.horizon_seconds == 540


@pytest.mark.parametrize("folder", ["", "scenarios"])
def test_a_scenarios_own_folder_comes_before_the_packaged_files(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "workloads" / "steady.yaml", {"name": "steady", "users": 3})
    scenario = write(tmp_path / folder / "mine.yaml", SCENARIO)
    assert resolve(scenario).workload.users == 3
    assert resolve(str(scenario)).workload.users == 3


# --- files ------------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "mine.yaml", "name: mine\nhorizon_seconds: [120\n"))
    assert "not YAML" in str(error)
    assert "line" in error.key


def test_a_key_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    assert "'name' occurs twice" in str(refused(write(tmp_path / "mine.yaml", "name: mine\nname: yours\n")))


def test_a_misspelt_key_is_refused_with_the_likely_one(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "mine.yaml", SCENARIO | {"horizon_second": 120}))
    assert (error.key, error.found) == ("horizon_second", 120)
    assert "did you mean 'horizon_seconds'?" in str(error)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert refused(write(tmp_path / "mine.yaml", {"horizon_seconds": 120})).key == "name"


def test_a_key_inside_a_mapping_of_names_is_found_again(tmp_path: Path) -> None:
    services = msgspec.to_builtins(resolve("small-core").public.services)
    services["services"]["payment"]["operations"]["Charge"]["tail_ms"] = "long"
    write(tmp_path / "services" / "broken.yaml", services)
    error = refused(write(tmp_path / "mine.yaml", SCENARIO | {"services": "broken"}))
    assert error.key == "services.payment.operations.Charge.tail_ms"
    assert error.found == "long"
    assert "a number" in str(error)


def test_a_word_outside_its_list_is_refused_with_the_list(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "mine.yaml", SCENARIO | {"policy": {"name": "scriptd"}}))
    assert (error.key, error.found) == ("policy.name", "scriptd")
    assert "did you mean 'scripted'?" in str(error)


def test_a_value_in_a_list_is_named_by_its_place(tmp_path: Path) -> None:
    planned = [{"at_seconds": 0, "action": {}}, {"at_seconds": "soon", "action": {}}]
    error = refused(write(tmp_path / "mine.yaml", SCENARIO | {"interventions": planned}))
    assert (error.key, error.found) == ("interventions[1].at_seconds", "soon")


@pytest.mark.parametrize("target", ["quikstart", "nowhere/mine.yaml"])
def test_a_target_that_is_not_there_is_refused(target: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(target)
    assert target in str(caught.value)


def test_a_misspelt_workload_is_refused_with_the_likely_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'steady'"):
        resolve("small-core", workload="stedy")


# --- relations --------------------------------------------------------------------------------------------------------------

GOOD = Granularity()


@pytest.mark.parametrize(
    ("change", "key", "other"),
    [
        ({"observation_bucket_seconds": 3}, "observation_bucket_seconds", "scrape_interval_seconds = 5"),
        ({"observation_bucket_seconds": 12}, "observation_bucket_seconds", "scrape_interval_seconds = 5"),
        ({"observation_window_seconds": 305}, "observation_window_seconds", "observation_bucket_seconds = 10"),
        ({"control_step_seconds": 25}, "control_step_seconds", "observation_bucket_seconds = 10"),
        ({"reward_bucket_seconds": 20}, "reward_bucket_seconds", "control_step_seconds = 30"),
        ({"warmup_seconds": 55}, "warmup_seconds", "observation_bucket_seconds = 10"),
        ({"warmup_seconds": 40}, "warmup_seconds", "reward_bucket_seconds = 30"),
        ({"cooldown_seconds": 5}, "cooldown_seconds", "observation_bucket_seconds = 10"),
        ({"scrape_interval_seconds": 0}, "scrape_interval_seconds", "more than 0"),
        ({"warmup_seconds": -30}, "warmup_seconds", "0 or more"),
    ],
)
def test_times_that_do_not_go_together_are_refused_with_both_values(
    tmp_path: Path, change: dict[str, int], key: str, other: str
) -> None:
    write(tmp_path / "granularity" / "mine.yaml", msgspec.to_builtins(GOOD) | change)
    error = refused(write(tmp_path / "mine.yaml", SCENARIO | {"granularity": "mine"}))
    assert error.key == key
    assert error.found == change[key]
    assert other in str(error)


@given(
    st.builds(
        Granularity,
        control_step_seconds=st.integers(1, 60),
        observation_bucket_seconds=st.integers(1, 30),
        observation_window_seconds=st.integers(1, 300),
        reward_bucket_seconds=st.integers(1, 60),
        scrape_interval_seconds=st.integers(1, 15),
        warmup_seconds=st.integers(0, 60),
        cooldown_seconds=st.integers(0, 60),
    )
)
def test_whatever_times_are_accepted_put_every_edge_on_an_edge(times: Granularity) -> None:
    config = resolve(Scenario(name="mine", horizon_seconds=3600))
    config = msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, granularity=times))
    try:
        resolve(config)
    except ConfigurationError:
        return
    bucket = times.observation_bucket_seconds
    for seconds in (
        times.control_step_seconds,
        times.reward_bucket_seconds,
        times.warmup_seconds,
        times.cooldown_seconds,
    ):
        assert seconds % bucket == 0
    assert bucket % times.scrape_interval_seconds == 0
    assert times.warmup_seconds % times.reward_bucket_seconds == 0
    assert 3600 % times.control_step_seconds == 3600 % times.reward_bucket_seconds == 0


def planned(at_seconds: int, **action: Any) -> tuple[PlannedAction, ...]:
    return (PlannedAction(at_seconds=at_seconds, action=action),)


@pytest.mark.parametrize(
    ("scenario", "key", "words"),
    [
        (Scenario(name="s", horizon_seconds=100), "horizon_seconds", "control_step_seconds = 30"),
        (
            Scenario(name="s", interventions=planned(600, type="noop")),
            "interventions[0].at_seconds",
            "horizon_seconds = 600",
        ),
        (Scenario(name="s", interventions=planned(0, target="cart")), "interventions[0].action.type", "type: scale"),
        (
            Scenario(name="s", interventions=planned(0, type="cpu_pressure", target="cartt")),
            "interventions[0].action.target",
            "did you mean 'cart'?",
        ),
        (
            Scenario(name="s", interventions=planned(0, type="network_delay", target="cart->frontend")),
            "interventions[0].action.target",
            "no such edge",
        ),
        (
            Scenario(name="s", policy=PolicySettings(name="scripted", actions=planned(45, type="noop"))),
            "policy.actions[0].at_seconds",
            "control_step_seconds = 30",
        ),
        (
            Scenario(name="s", policy=PolicySettings(name="scripted", actions=planned(30, type="noop") * 2)),
            "policy.actions[1].at_seconds",
            "a step has one",
        ),
        (
            Scenario(name="s", policy=PolicySettings(name="noop", actions=planned(30, type="noop"))),
            "policy.name",
            "scripted",
        ),
    ],
)
def test_a_script_that_can_not_be_played_is_refused(scenario: Scenario, key: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve(scenario)
    assert caught.value.key == key
    assert words in str(caught.value)


def broken_services(change: str) -> dict[str, Any]:
    services: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(resolve("small-core").public.services))
    match change:
        case "unknown entry":
            services["entry"] = "frontent"
        case "unknown call":
            services["services"]["cart"]["operations"]["GetCart"]["steps"][0]["calls"][0]["target"] = "valkey-cart:GET"
        case "call without an edge":
            services["edges"] = [edge for edge in services["edges"] if edge["source"] != "shipping"]
        case "endless calls":
            call = {"target": "quote:POST /getquote"}
            services["services"]["quote"]["operations"]["POST /getquote"]["steps"] = [{"calls": [call]}]
            services["edges"].append({"source": "quote", "target": "quote", "protocol": "http"})
        case "unknown edge end":
            services["edges"][1]["target"] = "catalogue"
        case "edge twice":
            services["edges"].append(services["edges"][1])
        case "unknown request":
            services["flows"]["index"]["requests"] = ["GET /home"]
        case "limit below request":
            services["services"]["cart"]["cpu_limit_cores"] = 0.01
        case "two stateful replicas":
            services["services"]["postgresql"]["replicas"] = 2
        case "no weight":
            for flow in services["flows"].values():
                flow["weight"] = 0
    return services


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("unknown entry", "did you mean 'frontend'?"),
        ("unknown call", "valkey-cart:HGET"),
        ("call without an edge", "no edge shipping->quote"),
        ("endless calls", "would never end"),
        ("unknown edge end", "edges[1].target"),
        ("edge twice", "declared twice"),
        ("unknown request", "no such operation"),
        ("limit below request", "cpu_request_cores = 0.05"),
        ("two stateful replicas", "in one pod"),
        ("no weight", "weight above 0"),
    ],
)
def test_an_application_that_can_not_work_is_refused(tmp_path: Path, change: str, words: str) -> None:
    write(tmp_path / "services" / "broken.yaml", broken_services(change))
    error = refused(write(tmp_path / "mine.yaml", SCENARIO | {"services": "broken"}))
    assert words in str(error)
    assert str(tmp_path / "services" / "broken.yaml") in str(error)


def test_a_mix_of_flows_that_the_application_does_not_have_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "workloads" / "odd.yaml", {"name": "odd", "mix": {"chekout": 2}})
    error = refused(write(tmp_path / "mine.yaml", SCENARIO | {"workload": "odd"}))
    assert "did you mean 'checkout" in str(error)


# --- calls of a running environment -----------------------------------------------------------------------------------------


def test_a_step_lasts_a_control_step_unless_told_otherwise() -> None:
    settings = resolve("small-core").public
    assert check_duration(None, settings) == 30
    assert check_duration(60, settings) == 60


@pytest.mark.parametrize("dt", [0, -30, 45 - 11])
def test_a_step_that_ends_inside_a_bucket_is_refused(dt: int) -> None:
    with pytest.raises(ConfigurationError, match=f"dt = {dt}"):
        check_duration(dt, resolve("small-core").public)


def test_an_observation_has_the_configured_window_and_bucket_unless_told_otherwise() -> None:
    assert check_window(None, None, GOOD) == (300, 10)
    assert check_window(600, 30, GOOD) == (600, 30)


@pytest.mark.parametrize(("window", "bucket"), [(300, 3), (300, 7), (305, 10), (0, 10), (300, 0)])
def test_an_observation_that_the_log_can_not_answer_is_refused(window: int, bucket: int) -> None:
    with pytest.raises(ConfigurationError):
        check_window(window, bucket, GOOD)
