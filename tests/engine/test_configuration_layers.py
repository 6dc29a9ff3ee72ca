"""A file that extends another says only what differs; the whole is complete, and an error in it names the file that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.errors import ConfigurationError, UsageError
from otel_control_gym.engine.settings import ServiceConfiguration

BASE: dict[str, Any] = {
    "name": "base",
    "demo_version": "2.2.0",
    "chart_version": "0.40.10",
    "entry": "shop",
    "services": {
        "load": {"kind": "workload"},
        "shop": {
            "cpu_limit_cores": 1.0,
            "operations": {"buy": {"steps": [{"calls": [{"target": "store:get"}]}], "tail_ms": 2}, "look": {}},
        },
        "store": {"operations": {"get": {"tail_ms": 1}}},
    },
    "edges": [
        {"source": "load", "target": "shop", "protocol": "http"},
        {"source": "shop", "target": "store", "protocol": "grpc", "retries": 2},
    ],
    "flows": {"buy": {"weight": 1, "requests": ["buy"]}, "look": {"weight": 3, "requests": ["look"]}},
}


def write(folder: Path, name: str, document: dict[str, Any]) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def extended(folder: Path, **changes: Any) -> ServiceConfiguration:
    """Return what a file with some changes makes of the base."""
    write(folder, "base", BASE)
    file = write(folder, "mine", {"name": "mine", "extends": "base", **changes})
    return load_services(str(file))[0]


def refused(folder: Path, **changes: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        extended(folder, **changes)
    return caught.value


def test_a_file_that_changes_nothing_is_what_it_extends(tmp_path: Path) -> None:
    same = extended(tmp_path)
    assert msgspec.structs.replace(same, name="base") == msgspec.convert(BASE, ServiceConfiguration)


def test_mappings_are_merged_all_the_way_down(tmp_path: Path) -> None:
    found = extended(
        tmp_path, services={"shop": {"operations": {"buy": {"tail_ms": 5}}}}, flows={"look": {"weight": 1}}
    )
    buy = found.services["shop"].operations["buy"]
    assert buy.tail_ms == 5
    assert [call.target for step in buy.steps for call in step.calls] == ["store:get"]
    assert (found.services["shop"].cpu_limit_cores, found.flows["look"].requests) == (1.0, ("look",))


def test_an_edge_is_known_by_its_ends(tmp_path: Path) -> None:
    changes = [
        {"source": "shop", "target": "store", "timeout_ms": 50},
        {"source": "load", "target": "store", "protocol": "sql"},
    ]
    found = extended(tmp_path, edges=changes).edges
    assert [(edge.source, edge.target) for edge in found] == [("load", "shop"), ("shop", "store"), ("load", "store")]
    assert (found[1].protocol, found[1].retries, found[1].timeout_ms) == ("grpc", 2, 50)


def test_other_lists_are_replaced(tmp_path: Path) -> None:
    found = extended(tmp_path, services={"shop": {"operations": {"buy": {"steps": []}}}})
    assert found.services["shop"].operations["buy"].steps == ()


def test_null_takes_away(tmp_path: Path) -> None:
    found = extended(
        tmp_path,
        services={"shop": {"cpu_limit_cores": None, "operations": {"look": None}}},
        flows={"look": None},
        edges=[{"source": "shop", "target": "store", "protocol": None}],
    )
    assert (found.services["shop"].cpu_limit_cores, list(found.services["shop"].operations)) == (None, ["buy"])
    assert (list(found.flows), len(found.edges)) == (["buy"], 1)


def test_extensions_are_extended_in_turn(tmp_path: Path) -> None:
    write(tmp_path, "base", BASE)
    write(tmp_path, "middle", {"name": "middle", "extends": "base", "flows": {"look": {"weight": 7}}})
    top = write(tmp_path, "top", {"name": "top", "extends": "middle.yaml", "flows": {"buy": {"weight": 9}}})
    found, layers = load_services(str(top))
    assert [flow.weight for flow in found.flows.values()] == [9, 7]
    assert layers.label == str(top)


def test_a_packaged_configuration_can_be_extended_under_its_own_name(tmp_path: Path) -> None:
    file = write(
        tmp_path, "small-core", {"name": "small-core", "extends": "small-core", "services": {"cart": {"replicas": 3}}}
    )
    assert load_services(str(file))[0].services["cart"].replicas == 3


def test_a_generated_application_can_be_extended(tmp_path: Path) -> None:
    file = write(
        tmp_path, "mine", {"name": "mine", "extends": "synthetic:12", "services": {"gateway": {"replicas": 2}}}
    )
    found = load_services(str(file))[0]
    assert (found.services["gateway"].replicas, len(found.services)) == (2, 13)


def test_the_effective_configuration_is_complete(tmp_path: Path) -> None:
    config = resolve("async-store")
    file = tmp_path / "whole.yaml"
    file.write_bytes(msgspec.yaml.encode(config.public.services))
    assert "extends" not in file.read_text(encoding="utf-8")
    assert load_services(str(file))[0] == config.public.services


# --- errors -----------------------------------------------------------------------------------------------------------------


def test_a_wrong_value_is_charged_to_the_file_that_wrote_it(tmp_path: Path) -> None:
    error = refused(tmp_path, services={"shop": {"operations": {"buy": {"tail_ms": "long"}}}})
    assert (error.file, error.key, error.found) == (
        str(tmp_path / "mine.yaml"),
        "services.shop.operations.buy.tail_ms",
        "long",
    )


def test_an_inherited_mistake_is_charged_to_the_extended_file(tmp_path: Path) -> None:
    broken = msgspec.convert(BASE, dict[str, Any]) | {"namespace": 7}
    write(tmp_path, "broken", broken)
    file = write(tmp_path, "mine", {"name": "mine", "extends": "broken"})
    with pytest.raises(ConfigurationError) as caught:
        load_services(str(file))
    assert (caught.value.file, caught.value.key) == (str(tmp_path / "broken.yaml"), "namespace")


def test_an_edge_has_the_number_that_it_has_in_its_own_file(tmp_path: Path) -> None:
    error = refused(tmp_path, edges=[{"source": "shop", "target": "store", "retries": "twice"}])
    assert (error.file, error.key) == (str(tmp_path / "mine.yaml"), "edges[0].retries")


def test_an_impossible_whole_is_charged_to_the_file_that_wrote_the_value(tmp_path: Path) -> None:
    folder = tmp_path / "services"
    folder.mkdir()
    write(folder, "base", BASE)
    operations = {"get": {"tail_ms": 1, "steps": [{"calls": [{"target": "shop:look"}]}]}}
    write(folder, "middle", {"name": "middle", "extends": "base", "services": {"store": {"operations": operations}}})
    write(folder, "mine", {"name": "mine", "extends": "middle"})
    scenario = write(tmp_path, "scenario", {"name": "s", "services": "mine"})
    with pytest.raises(ConfigurationError, match="no edge store->shop") as caught:
        resolve(scenario)
    assert caught.value.file == str(folder / "middle.yaml")
    assert caught.value.key == "services.store.operations.get.steps[0].calls[0].target"


def test_a_missing_key_is_charged_to_the_file_that_got_closest(tmp_path: Path) -> None:
    error = refused(tmp_path, flows={"new": {"weight": 1}})
    assert (error.file, error.key) == (str(tmp_path / "mine.yaml"), "flows.new.requests")


def test_taking_away_what_is_not_there_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, services={"shpo": None})
    assert (error.file, error.key) == (str(tmp_path / "mine.yaml"), "services.shpo")


def test_an_unknown_name_is_refused_with_the_likely_one(tmp_path: Path) -> None:
    file = write(tmp_path, "mine", {"name": "mine", "extends": "small-cor"})
    with pytest.raises(ConfigurationError, match="did you mean 'small-core'") as caught:
        load_services(str(file))
    assert (caught.value.file, caught.value.key) == (str(file), "extends")


@pytest.mark.parametrize("names", [("mine",), ("mine", "yours"), ("mine", "yours", "theirs")])
def test_a_circle_is_refused_with_all_that_are_in_it(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, following in zip(names, (*names[1:], names[0]), strict=True):
        write(tmp_path, name, {"name": name, "extends": following})
    with pytest.raises(ConfigurationError, match="extends itself") as caught:
        load_services(str(tmp_path / "mine.yaml"))
    assert all(str(tmp_path / f"{name}.yaml") in str(caught.value) for name in names)


@pytest.mark.parametrize("reference", ["synthetic:9", "synthetic:1001", "synthetic:x", "synthetic:40,"])
def test_a_generated_application_out_of_bounds_is_refused_with_the_bounds(reference: str) -> None:
    with pytest.raises(UsageError, match="from 10 to 1000"):
        resolve(reference)
