"""Telemetry settings: what can't be is refused, with the key, what was found and what would be right; every packaged one can be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from otel_control_gym.engine.configuration import as_yaml, resolve
from otel_control_gym.engine.configuration_files import packaged_names
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import Distortion, RunConfig, RunSettings, TelemetrySettings


def refused(tmp_path: Path, *, lag_seconds: int = 0, **distortion: Any) -> ConfigurationError:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "lag_seconds": lag_seconds, "distortion": distortion}), "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        resolve("small-core", telemetry=str(file))
    return caught.value


@pytest.mark.parametrize("name", packaged_names("telemetry"))
@pytest.mark.parametrize("target", packaged_names("services"))
def test_every_packaged_telemetry_goes_with_every_application(target: str, name: str) -> None:
    config = resolve(target, telemetry=name)
    assert (config.public.telemetry.name, config.scenario.telemetry) == (name, name)
    assert (config.public.telemetry.distortion == Distortion()) == (name in ("default", "aggregated"))


def test_edges_that_are_counted_from_spans_need_them_as_rows(tmp_path: Path) -> None:
    (tmp_path / "store.yaml").write_text("name: store\nextends: small-core\nedge_source: client_spans\n", "utf-8")
    run = tmp_path / "run.yaml"
    run.write_text("name: run\nservices: ./store.yaml\n", "utf-8")
    assert resolve(run, telemetry="default").public.telemetry.traces == "both"
    with pytest.raises(ConfigurationError, match=r"edge_source = client_spans.*\n.*use both or raw") as caught:
        resolve(run, telemetry="aggregated")
    assert (caught.value.key, caught.value.found) == ("traces", "aggregated")


@pytest.mark.parametrize("name", packaged_names("telemetry"))
def test_it_survives_yaml(name: str) -> None:
    config = resolve("small-core", telemetry=name)
    assert msgspec.yaml.decode(as_yaml(config).encode(), type=RunConfig) == config


def test_settings_from_before_there_was_telemetry_mean_an_undistorted_one() -> None:
    document = msgspec.to_builtins(resolve("small-core").public)
    del document["telemetry"]
    assert msgspec.convert(document, RunSettings).telemetry == TelemetrySettings()


def test_a_scenario_chooses_its_telemetry(tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "telemetry": "lossy"}), "utf-8")
    assert resolve(file).public.telemetry.name == "lossy"


@pytest.mark.parametrize(
    ("distortion", "key", "remedy"),
    [
        ({"noise": {"factors": {"node.memory": 0.1}}}, "distortion.noise.factors", "node.memory_bytes"),
        ({"noise": {"offsets": {"node.cpu_seconds": 1.0}}}, "distortion.noise.offsets.node.cpu_seconds", "factors"),
        (
            {"noise": {"factors": {"node.request_count": 0.1, "node.error_count": 0.2}}},
            "distortion.noise.factors.node.error_count",
            "use 0.1 for both",
        ),
        ({"noise": {"factors": {"node.latency": -0.1}}}, "distortion.noise.factors.node.latency", "0 or more"),
        ({"jitter_seconds": 2.5}, "distortion.jitter_seconds", "less than 2.5"),
        ({"scrapes": {"share": 1.0}}, "distortion.scrapes.share", "0 to 0.9"),
        ({"targets": {"share": 0.8, "burst": 2.0}}, "distortion.targets.burst", "use 4 or more"),
        ({"silences": {"spans": {"share": 0.1, "seconds": 0.0}}}, "distortion.silences.spans.seconds", "more than 0"),
        ({"row_losses": {"logs": 1.5}}, "distortion.row_losses.logs", "0 to 0.9"),
        ({"hidden": {"services": ["curency"]}}, "distortion.hidden.services", "did you mean 'currency'"),
        ({"hidden": {"services": ["frontend"]}}, "distortion.hidden.services", "hide other services"),
        ({"hidden": {"edges": ["cart->frontend"]}}, "distortion.hidden.edges", "accepted"),
        ({"hidden": {"features": ["node.latency"]}}, "distortion.hidden.features", "hide other features"),
        ({"delays": {"spans": {"seconds": 5.0, "random_seconds": 1.0}}}, "distortion.delays.spans.seconds", "6"),
    ],
)
def test_what_can_t_be_is_refused(tmp_path: Path, distortion: dict[str, Any], key: str, remedy: str) -> None:
    error = refused(tmp_path, **distortion)
    assert error.key == key
    assert remedy in str(error)


def test_features_fed_by_the_same_series_are_hidden_together(tmp_path: Path) -> None:
    config = resolve("small-core")
    node = dict(config.public.metrics.node) | {"burn": config.public.metrics.node["cpu_seconds"]}
    public = msgspec.structs.replace(
        config.public,
        metrics=msgspec.structs.replace(config.public.metrics, node=node),
        telemetry=msgspec.convert({"distortion": {"hidden": {"features": ["node.burn"]}}}, TelemetrySettings),
    )
    with pytest.raises(ConfigurationError, match=r"feed node\.cpu_seconds too"):
        resolve(msgspec.structs.replace(config, public=public))


def test_a_delay_within_the_lag_is_accepted(tmp_path: Path) -> None:
    assert refused(tmp_path, lag_seconds=5, delays={"logs": {"seconds": 6.0}}).key == "distortion.delays.logs.seconds"
    file = tmp_path / "mine.yaml"
    file.write_text(file.read_text("utf-8").replace("lag_seconds: 5", "lag_seconds: 6"), "utf-8")
    assert resolve("small-core", telemetry=str(file)).public.telemetry.lag_seconds == 6
