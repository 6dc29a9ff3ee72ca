"""The generated files of deploy/ say what they follow from: the service configurations and the catalogue of actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_control_gym.actuators.permissions import CHAOS_GROUP, Permission, rules
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.configuration_files import packaged_names
from otel_control_gym.engine.deployment import PACKAGED, generated, operator_permissions, policy_permissions, write

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = generated()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_generated_file_is_current(name: str) -> None:
    assert (DEPLOY / name).read_text(encoding="utf-8") == FILES[name], (
        f"deploy/{name} is out of date: run `make manifests`"
    )


def test_each_packaged_application_has_values() -> None:
    assert set(PACKAGED) == set(packaged_names("services"))


@pytest.mark.parametrize("name", PACKAGED)
def test_what_is_installed_is_what_the_twin_simulates(name: str) -> None:
    services = resolve(name).public.services.services
    components = yaml.safe_load(FILES[f"helm/demo-{name}.yaml"])["components"]
    assert {component for component, values in components.items() if values["enabled"]} == set(services)
    for component, settings in services.items():
        values = components[component]
        assert values["replicas"] == settings.replicas
        assert values["resources"]["limits"]["cpu"] == _cores(settings.cpu_limit_cores or 0)
        if settings.memory_limit_bytes:
            assert values["resources"]["limits"]["memory"] == f"{settings.memory_limit_bytes // 2**20}Mi"
    probes = yaml.safe_load(FILES[f"helm/probes-{name}.yaml"])["components"]
    assert set(probes) == {component for component, settings in services.items() if settings.listens}


def _cores(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{round(number * 1000)}m"


def role(name: str, namespace: str) -> list[dict[str, Any]]:
    documents = [
        document for file in FILES for document in yaml.safe_load_all(FILES[file]) if file.endswith("rbac.yaml")
    ]
    (found,) = (
        document["rules"]
        for document in documents
        if document["kind"] == "Role"
        and (document["metadata"]["name"], document["metadata"]["namespace"]) == (name, namespace)
    )
    return list(found)


def test_the_operators_role_is_what_the_catalogue_needs() -> None:
    assert role("ocg-operator", "otel-demo") == rules(operator_permissions())


def test_a_policys_role_tells_nothing_of_faults() -> None:
    granted = policy_permissions()
    assert role("ocg-policy", "otel-demo") == rules(granted)
    assert CHAOS_GROUP not in {permission.group for permission in granted}
    for hidden in ("events", "configmaps"):
        assert not {verb for verb in ("get", "list", "watch") if Permission("", hidden, verb) in granted}
    assert not [
        permission for permission in granted if permission.resource in ("services/proxy", "pods/log", "pods/exec")
    ]


def test_the_files_can_be_written_anywhere(tmp_path: Path) -> None:
    write(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.yaml")} == set(FILES)
