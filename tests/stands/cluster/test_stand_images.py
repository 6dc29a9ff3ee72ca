"""A stand's images are those that its configuration runs, each once, pinned, and with a place in a mirror that no other one has."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from otel_control_gym.engine.command_line.app import app
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.deployment import PACKAGED
from otel_control_gym.stands.cluster.pins import pins
from otel_control_gym.stands.cluster.stand_images import digests_of, mirrored, stand_images

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize("name", PACKAGED)
def test_each_service_has_its_image_and_none_is_there_twice(name: str) -> None:
    services = resolve(name).public.services
    found = stand_images(services, pins(), registry="reg.example.com")
    names = [image.name for image in found]
    assert len(set(names)) == len(names) == len({image.mirror for image in found})
    own = {"flagd": "/flagd:v0.12.9", "postgresql": "postgres:17.6", "valkey-cart": "/valkey:9.0.1-alpine3.23"}
    for service in services.services:
        wanted = own.get(service, f"/demo:2.2.0-{service}")
        assert len([image for image in names if image.endswith(wanted)]) == 1, service
    assert ("busybox:1.37.0" in names, "registry.k8s.io/pause:3.10" in names) == (True, True)
    demo = [image for image in names if "open-telemetry/demo:" in image]
    assert {image.rpartition("2.2.0-")[2] for image in demo} <= {*services.services, "flagd-ui"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("busybox:1.37.0", "reg/busybox:1.37.0"),
        ("valkey/valkey:9", "reg/valkey/valkey:9"),
        ("ghcr.io/coroot/coroot:1", "reg/coroot/coroot:1"),
        ("localhost:5000/x:1", "reg/x:1"),
    ],
)
def test_a_mirror_keeps_the_path_without_the_host(name: str, place: str) -> None:
    assert mirrored(name, "reg/") == place


def test_digests_are_those_of_what_pods_have_pulled() -> None:
    pod = {
        "spec": {"containers": [{"name": "cart", "image": "ghcr.io/x/cart:1"}, {"name": "late", "image": "late:1"}]},
        "status": {
            "containerStatuses": [
                {"name": "cart", "imageID": f"ghcr.io/x/cart@{DIGEST}"},
                {"name": "late", "imageID": ""},
            ]
        },
    }
    assert digests_of([pod]) == {"ghcr.io/x/cart:1": DIGEST}


def test_the_command_prints_one_document() -> None:
    done = CliRunner().invoke(app, ["stand", "images", "--json", "--config", "async-store"])
    assert done.exit_code == 0
    images = json.loads(done.stdout)["images"]
    assert {image["part"] for image in images} == {"demo", "chaos-mesh", "coroot", "gym"}


@pytest.mark.parametrize("verb", ["up", "status", "down"])
def test_without_a_helm_a_command_says_where_to_get_one(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    words = ["--yes"] if verb == "down" else []
    done = CliRunner().invoke(app, ["stand", verb, "--json", "--kubeconfig", "none", *words])
    assert done.exit_code == 2
    assert "https://helm.sh" in json.loads(done.stdout)["error"]["message"]
