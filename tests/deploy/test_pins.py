"""Versions are written down once: whatever in deploy/ has to repeat one says what pins.yaml says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.deployment import PACKAGED
from otel_control_gym.stands.cluster.pins import pins

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*.yaml") if path.name != "pins.yaml")
_INSTALLATION = re.compile(r"helm upgrade --install \S+ (\S+) --repo (\S+) --version (\S+)")


def images(document: Any) -> Iterator[str]:
    """Yield every reference of an image in a document."""
    if isinstance(document, list):
        for item in document:
            yield from images(item)
    elif isinstance(document, dict):
        for key, value in document.items():
            if key in ("image", "pauseImage") and isinstance(value, str):
                yield value
            elif key == "image" and isinstance(value, dict) and "name" in value:
                yield value["name"]
            else:
                yield from images(value)


FOUND = {path: [*images(list(yaml.safe_load_all(path.read_text(encoding="utf-8"))))] for path in FILES}


def test_every_image_that_is_named_is_pinned() -> None:
    pinned = {image.name for image in pins().images.values()}
    assert {name for names in FOUND.values() for name in names} <= pinned


def test_a_pinned_image_has_a_version() -> None:
    for image in pins().images.values():
        tag = image.name.rpartition("/")[2].partition(":")[2]
        assert tag not in ("", "latest"), image.name


def test_every_chart_that_is_installed_is_pinned() -> None:
    text = "\n".join(
        path.read_text(encoding="utf-8").replace("\\\n#    ", "") for path in [*FILES, DEPLOY / "README.md"]
    )
    installed = _INSTALLATION.findall(text)
    assert {chart for chart, _, _ in installed} == set(pins().charts)
    for chart, repository, version in installed:
        pinned = pins().charts[chart]
        assert (repository, version) == (pinned.repository, pinned.version), chart


@pytest.mark.parametrize("name", PACKAGED)
def test_an_application_is_of_the_release_that_its_chart_installs(name: str) -> None:
    services = resolve(name).public.services
    chart = pins().charts["opentelemetry-demo"]
    assert (services.chart_version, services.demo_version) == (chart.version, chart.application)


def test_chaos_mesh_installs_the_images_of_its_chart() -> None:
    values = yaml.safe_load((DEPLOY / "helm" / "chaos-mesh.yaml").read_text(encoding="utf-8"))
    assert values["images"]["tag"] == f"v{pins().charts['chaos-mesh'].version}"
