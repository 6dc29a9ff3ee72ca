"""What the pinned charts make of our values, where a `helm` is found: valid objects, each container with its bounds, nothing unpinned.

The charts come from their repositories; without a way there, `OCG_TEST_CHARTS` names a directory with one directory for each chart (by the
name in pins.yaml, subcharts in place).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.deployment import PACKAGED, values_files
from otel_control_gym.stands.cluster.locust import load_config_map
from otel_control_gym.stands.cluster.parts import Nodes, releases
from otel_control_gym.stands.cluster.pins import pins
from otel_control_gym.stands.cluster.stand_images import image_values, mirrored_pins, stand_images
from otel_control_gym.stands.marks import MARK

DEPLOY = Path(__file__).parents[2] / "deploy"
HELM = shutil.which("helm")
CHARTS = os.environ.get("OCG_TEST_CHARTS", "")
DEMO = "opentelemetry-demo"
HOLDERS = ("Deployment", "StatefulSet", "DaemonSet")

pytestmark = pytest.mark.skipif(
    HELM is None, reason="no helm is on the PATH: what the charts make of our values isn't seen"
)


def helm(chart: str, *values: str, checked: bool = True) -> subprocess.CompletedProcess[str]:
    """Render a chart with files of deploy/; `checked`: against its schema."""
    assert HELM is not None
    pinned = pins().charts[chart]
    place = [str(Path(CHARTS) / chart)] if CHARTS else [chart, "--repo", pinned.repository, "--version", pinned.version]
    files = [word for name in values for word in ("--values", str(DEPLOY / name))]
    schema = [] if checked else ["--skip-schema-validation"]
    command = [HELM, "template", "stand", *place, "--namespace", "otel-demo", *schema, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode and not CHARTS and ("no such host" in done.stderr or "dial tcp" in done.stderr):
        pytest.skip(f"helm can't reach {pinned.repository}, and OCG_TEST_CHARTS names no directory")
    return done


def rendered(chart: str, *values: str, checked: bool = True) -> list[dict[str, Any]]:
    done = helm(chart, *values, checked=checked)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def demo(name: str, *more: str) -> list[dict[str, Any]]:
    files = ("helm/demo.yaml", f"helm/demo-{name}.yaml", f"helm/probes-{name}.yaml", "helm/receiver.yaml", *more)
    return rendered(DEMO, *files, checked=False)


def containers(documents: list[dict[str, Any]], *, initial: bool = True) -> list[tuple[str, dict[str, Any]]]:
    pods = [
        (document["metadata"]["name"], document["spec"]["template"]["spec"])
        for document in documents
        if document["kind"] in HOLDERS
    ]
    return [
        (f"{name}/{container['name']}", container)
        for name, pod in pods
        for container in [*(pod.get("initContainers") or [] if initial else []), *pod["containers"]]
    ]


def images(documents: list[dict[str, Any]]) -> set[str]:
    """Return the images that pods of these objects run, or that what they configure would run."""
    told = {
        container["image"].lstrip("/") for _, container in containers(documents)
    }  # a chart without its library chart
    return told | {
        item["value"]
        for _, container in containers(documents)
        for item in container.get("env") or ()
        if item["name"] == "POD_FAILURE_PAUSE_IMAGE"
    }


def everything(name: str, registry: str = "") -> tuple[set[str], list[dict[str, Any]]]:
    """Return the images of all charts of a stand, and their objects, as `ocg stand up` would have them."""
    services, pinned = resolve(name).public.services, mirrored_pins(pins(), registry)
    generated = values_files(services, pinned)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for release in releases(name, Nodes()):
            texts = [generated.get(file) or (DEPLOY / file).read_text(encoding="utf-8") for file in release.values]
            if registry:
                texts.append(yaml.safe_dump(image_values(release.chart, pinned, pull_secret="regcred")))
            files = [Path(folder) / f"{release.name}-{number}.yaml" for number in range(len(texts))]
            for file, text in zip(files, texts, strict=True):
                file.write_text(text, encoding="utf-8")
            found += rendered(release.chart, *map(str, files), checked=release.checked)
    (coroot,) = (item["spec"] for item in found if item["kind"] == "Coroot")
    return images(found) | set(named(coroot)), found


def named(document: Any) -> Iterator[str]:
    """Yield the images that Coroot's object names for its operator."""
    for key, value in document.items() if isinstance(document, dict) else ():
        if key == "image" and "name" in value:
            yield value["name"]
        else:
            yield from named(value)


@pytest.mark.parametrize("name", ["small-core", "review-store"])
@pytest.mark.parametrize("registry", ["", "reg.example.com:5000/mirror"])
def test_the_images_that_are_listed_are_those_that_the_charts_run(name: str, registry: str) -> None:
    listed = stand_images(resolve(name).public.services, pins(), registry=registry)
    run, objects = everything(name, registry)
    assert run == {image.mirror or image.name for image in listed if image.part != "gym"}
    if registry:
        secrets = {
            item["metadata"]["name"]: item["spec"]["template"]["spec"].get("imagePullSecrets")
            for item in objects
            if item["kind"] in HOLDERS and item["metadata"]["name"] != "jaeger"  # whose library chart decides
        }
        assert set(map(str, secrets.values())) == {"[{'name': 'regcred'}]"}, secrets


def test_the_load_generator_runs_our_file() -> None:
    documents = demo("small-core")
    (pod,) = (
        document["spec"]["template"]
        for document in documents
        if document["kind"] == "Deployment" and document["metadata"]["name"] == "load-generator"
    )
    (container,) = pod["spec"]["containers"]
    told = {item["name"]: item.get("value") for item in container["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    maps = {volume["name"]: volume["configMap"]["name"] for volume in pod["spec"]["volumes"]}
    made = {document["metadata"]["name"]: document["data"] for document in documents if document["kind"] == "ConfigMap"}
    made |= {"ocg-load-generator": load_config_map("otel-demo")["data"]}
    for variable in ("LOCUST_LOCUSTFILE", "OCG_FLOWS"):
        folder, _, file = str(told[variable]).rpartition("/")
        (volume,) = (name for name, place in mounts.items() if place == folder)
        assert file in made[maps[volume]], variable
    assert pod["metadata"]["annotations"]["otel-control-gym/load"]


def check_objects(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        if document["kind"] not in ("CustomResourceDefinition", "Coroot"):
            kubernetes_validate.validate(document, pins().kubernetes.oldest, strict=True)
    for name, container in containers(documents):
        resources = container.get("resources") or {}
        assert resources.get("requests", {}).keys() >= {"cpu", "memory"}, name
        assert "memory" in resources.get("limits", {}), name
        assert container["image"].rpartition("/")[2].partition(":")[2] not in ("", "latest"), name
        assert not [port for port in container.get("ports") or () if "hostPort" in port], f"{name}: one stand per node"


@pytest.mark.parametrize("name", PACKAGED)
def test_the_demo_becomes_valid_bounded_objects(name: str) -> None:
    documents = demo(name)
    check_objects(documents)
    services = resolve(name).public.services.services
    deployments = {document["metadata"]["name"] for document in documents if document["kind"] == "Deployment"}
    assert deployments - set(services) == {"jaeger", "otel-collector", "prometheus", "stand-kube-state-metrics"}
    assert set(services) <= deployments
    found = dict(containers(documents, initial=False))
    for service, settings in services.items():
        assert ("readinessProbe" in found[f"{service}/{service}"]) is settings.listens


@pytest.mark.parametrize("name", PACKAGED)
def test_all_but_the_probes_keeps_the_charts_schema(name: str) -> None:
    assert helm(DEMO, "helm/demo.yaml", f"helm/demo-{name}.yaml", "helm/receiver.yaml").returncode == 0
    refused = helm(DEMO, "helm/demo.yaml", f"helm/probes-{name}.yaml")
    assert refused.returncode != 0
    assert "missing property 'httpGet'" in refused.stderr or "httpGet is required" in refused.stderr


def test_without_kafka_checkout_neither_waits_nor_publishes() -> None:
    def checkout(name: str) -> tuple[str, bool]:
        (found,) = (
            document["spec"]["template"]["spec"]
            for document in demo(name)
            if document["kind"] == "Deployment" and document["metadata"]["name"] == "checkout"
        )
        (address,) = (item["value"] for item in found["containers"][0]["env"] if item["name"] == "KAFKA_ADDR")
        return address, bool(found.get("initContainers"))

    assert checkout("small-core") == ("", False)
    assert checkout("async-store") == ("kafka:9092", True)


def test_what_lies_outside_the_namespace_and_what_measures_bears_the_gyms_label() -> None:
    documents = demo("small-core")
    labelled = {
        (document["kind"], document["metadata"]["name"])
        for document in documents
        if (document["metadata"].get("labels") or {}).get(MARK) == "true"
    }
    outside = {(item["kind"], item["metadata"]["name"]) for item in documents if item["kind"].startswith("ClusterRole")}
    assert outside <= labelled | {
        ("ClusterRole", "stand-kube-state-metrics"),
        ("ClusterRoleBinding", "stand-kube-state-metrics"),
    }
    assert {("Deployment", name) for name in ("jaeger", "otel-collector", "prometheus")} <= labelled
    assert MARK not in str(
        [(item.get("spec") or {}).get("selector") for item in documents]
    )  # selectors can't be changed


def test_the_collector_makes_edges_and_sends_them_and_spans_on() -> None:
    (relay,) = (
        yaml.safe_load(document["data"]["relay"])
        for document in demo("async-store")
        if document["kind"] == "ConfigMap" and "relay" in (document.get("data") or {})
    )
    pipelines = relay["service"]["pipelines"]
    assert "servicegraph" in pipelines["traces"]["exporters"]
    assert {"servicegraph", "spanmetrics", "kafkametrics", "k8s_cluster", "kubeletstats"} <= set(
        pipelines["metrics"]["receivers"]
    )
    for pipeline in pipelines.values():
        assert set(pipeline["exporters"]) <= {*relay["exporters"], *relay["connectors"]}
        assert set(pipeline["receivers"]) <= {*relay["receivers"], *relay["connectors"]}
        assert "opensearch" not in pipeline["exporters"]
    assert "otlphttp/gym" in pipelines["traces"]["exporters"]
    assert "otlphttp/gym" in pipelines["logs"]["exporters"]


def test_a_guarded_gym_is_shown_its_token_and_held_against_its_authority() -> None:
    documents = demo("small-core", "helm/receiver-guarded.yaml")
    check_objects(documents)
    (collector,) = (
        document["spec"]["template"]["spec"]
        for document in documents
        if document["kind"] == "Deployment" and document["metadata"]["name"] == "otel-collector"
    )
    (relay,) = (
        yaml.safe_load(document["data"]["relay"])
        for document in documents
        if document["kind"] == "ConfigMap" and "relay" in (document.get("data") or {})
    )
    exporter = relay["exporters"]["otlphttp/gym"]
    assert exporter["endpoint"].startswith("https://")
    assert exporter["sending_queue"]  # the rest of receiver.yaml stands
    (container,) = collector["containers"]
    variables = {item["name"]: item["valueFrom"] for item in container["env"] if "valueFrom" in item}
    scheme, _, variable = exporter["headers"]["Authorization"].partition(" ")
    assert scheme == "Bearer"
    source = variables[variable.removeprefix("${env:").removesuffix("}")]["secretKeyRef"]
    folder, _, file = exporter["tls"]["ca_file"].rpartition("/")
    (volume,) = (mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == folder)
    (secret,) = (item["secret"] for item in collector["volumes"] if item["name"] == volume)
    assert source["name"] == secret["secretName"]
    assert file in {item["path"] for item in secret["items"]}


@pytest.mark.parametrize(
    ("chart", "values"),
    [
        ("chaos-mesh", ("helm/chaos-mesh.yaml",)),
        ("chaos-mesh", ("helm/chaos-mesh.yaml", "helm/chaos-mesh-k3s.yaml")),
        ("coroot-operator", ("helm/coroot-operator.yaml",)),
        ("nats", ("nats/values.yaml",)),
    ],
)
def test_the_other_charts_become_valid_bounded_objects(chart: str, values: tuple[str, ...]) -> None:
    documents = rendered(chart, *values)
    names = {container.partition("/")[0] for container, _ in containers(documents)}
    assert names
    assert not [name for name in names if "dashboard" in name or "dns" in name]
    check_objects(documents)


def test_coroots_values_are_what_its_operator_understands() -> None:
    (definition,) = (
        document
        for document in rendered("coroot-operator", "helm/coroot-operator.yaml")
        if document["kind"] == "CustomResourceDefinition"
    )
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for values in (("helm/coroot.yaml",), ("helm/coroot.yaml", "helm/coroot-nested.yaml")):
        (coroot,) = rendered("coroot-ce", *values)
        jsonschema.Draft202012Validator(_closed(schema)).validate(coroot["spec"])


def _closed(schema: Any) -> Any:
    """Return a schema that takes no key that it doesn't name."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return (
        closed | {"additionalProperties": False}
        if "properties" in closed and "additionalProperties" not in closed
        else closed
    )
