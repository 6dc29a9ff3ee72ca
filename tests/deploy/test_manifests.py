"""What is shipped for clusters is what Kubernetes and our own command line understand; no cluster is needed to see that."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from otel_control_gym.stands.cluster.pins import pins

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted([*(DEPLOY / "kubernetes").glob("*.yaml"), *(DEPLOY / "stand").glob("*.yaml")])
OLDEST = pins().kubernetes.oldest


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


ALL = [document for path in MANIFESTS for document in documents(path)]
JOBS = [document for document in ALL if document["kind"] == "Job"]
DEPLOYMENTS = {document["metadata"]["name"]: document for document in ALL if document["kind"] == "Deployment"}
JANITOR, GYM = DEPLOYMENTS["janitor"], DEPLOYMENTS["gym"]


def containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    pod = job["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def name_of(job: dict[str, Any]) -> str:
    return str(job["metadata"]["name"])


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_keeps_the_schemas_of_kubernetes_and_has_no_key_that_they_do_not(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_key_would_be_seen() -> None:
    (job,) = documents(DEPLOY / "kubernetes" / "workers.yaml")
    job["spec"]["completionmode"] = job["spec"].pop("completionMode")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, OLDEST, strict=True)


@pytest.mark.parametrize("job", [*JOBS, JANITOR, GYM], ids=name_of)
def test_nothing_runs_as_root_or_without_a_limit(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert ("serviceAccountName" in pod) is (pod.get("automountServiceAccountToken") is None), (
        "a token only where it is used"
    )
    assert pod.get("automountServiceAccountToken") is not True
    for container in containers(job):
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"]
        assert not confined["allowPrivilegeEscalation"]
        assert confined["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_workers_are_indexed_and_each_index_is_under_way_at_once() -> None:
    (spec,) = (job["spec"] for job in JOBS if name_of(job) == "workers")
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] > 1


def test_every_volume_that_is_claimed_is_there_and_can_be_shared() -> None:
    (claim,) = documents(DEPLOY / "kubernetes" / "data.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    claimed = {
        volume["persistentVolumeClaim"]["claimName"]
        for job in JOBS
        for volume in job["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claimed == {claim["metadata"]["name"]}


OWN = [
    (name_of(job), container["args"])
    for job in JOBS
    for container in containers(job)
    if container["image"].startswith("otel-control-gym:") and "args" in container
]


@pytest.mark.parametrize(("job", "arguments"), OWN, ids=[job for job, _ in OWN])
def test_a_command_is_one_of_ours_with_the_options_that_it_has(job: str, arguments: list[str]) -> None:
    verbs = arguments[: arguments.index("mvp")]
    script = "from otel_control_gym.engine.command_line import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", script, *verbs, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200"},
    )
    for option in (word for word in arguments if word.startswith("--")):
        assert re.search(rf"{option}\b", ran.stdout), option
    assert "nats://nats:4222" in arguments


def test_streams_ask_for_as_many_copies_as_there_are_servers() -> None:
    values = yaml.safe_load((DEPLOY / "nats" / "values.yaml").read_text(encoding="utf-8"))
    servers = values["config"]["cluster"]["replicas"]
    assert values["config"]["jetstream"]["fileStore"]["enabled"]
    for job, _ in OWN:
        (spec,) = (found["spec"] for found in JOBS if name_of(found) == job)
        for container in spec["template"]["spec"]["containers"]:
            assert {"name": "OCG_NATS_REPLICAS", "value": str(servers)} in container["env"]


def test_the_image_is_slim_not_root_and_built_from_what_the_context_has() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert all(line.split()[1].endswith("-slim") for line in lines if line.startswith("FROM"))
    (user,) = (line.split()[1] for line in lines if line.startswith("USER"))
    assert {str(job["spec"]["template"]["spec"]["securityContext"]["runAsUser"]) for job in JOBS} == {
        user.partition(":")[0]
    }
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in sent)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rooms = set(re.findall(r'^"otel_control_gym[^"]*" = "(\w+)"$', project, re.MULTILINE))
    assert rooms | {"LICENSE", "README.md", "pyproject.toml", "requirements.lock"} == sent


def test_the_janitors_command_is_one_of_ours_and_its_account_is_made() -> None:
    pod = JANITOR["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    script = "from otel_control_gym.engine.command_line import main; main()"
    help_ = subprocess.run(
        [sys.executable, "-c", script, "stand", "janitor", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200"},
    ).stdout
    assert container["args"][:2] == ["stand", "janitor"]
    for option in (word for word in container["args"] if word.startswith("--")):
        assert re.search(rf"{option}\b", help_), option
    accounts = {
        (item["metadata"]["name"], item["metadata"]["namespace"]) for item in ALL if item["kind"] == "ServiceAccount"
    }
    assert (pod["serviceAccountName"], JANITOR["metadata"]["namespace"]) in accounts


def test_the_collector_finds_the_gym_where_it_is_told_that_it_is() -> None:
    (service,) = (item for item in ALL if item["kind"] == "Service")
    told = yaml.safe_load((DEPLOY / "helm" / "receiver.yaml").read_text(encoding="utf-8"))
    endpoint = told["opentelemetry-collector"]["config"]["exporters"]["otlphttp/gym"]["endpoint"]
    (port,) = service["spec"]["ports"]
    assert endpoint == f"http://{service['metadata']['name']}.{service['metadata']['namespace']}:{port['port']}"
    pod = GYM["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    assert {"name": port["targetPort"], "containerPort": port["port"]} in container["ports"]
    (admitted,) = (item["spec"] for item in ALL if item["metadata"]["name"] == "telemetry-only")
    assert {"protocol": "TCP", "port": port["port"]} in admitted["ingress"][0]["ports"]


def test_the_gyms_pod_finds_the_cluster_that_it_is_in() -> None:
    (config,) = (item["data"] for item in ALL if item["metadata"]["name"] == "gym-kubeconfig")
    pod = GYM["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (variable,) = container["env"]
    (mount,) = (item for item in container["volumeMounts"] if item["name"] == "kubeconfig")
    assert variable == {"name": "KUBECONFIG", "value": f"{mount['mountPath']}/kubeconfig"}
    document = yaml.safe_load(config["kubeconfig"])
    (context,) = (item["context"] for item in document["contexts"] if item["name"] == document["current-context"])
    assert context["namespace"] == "otel-demo"
    assert context["cluster"] in {item["name"] for item in document["clusters"]}
    assert context["user"] in {item["name"] for item in document["users"]}


def test_every_namespace_that_a_stand_uses_is_made_and_one_alone_is_there_to_be_broken() -> None:
    made = {item["metadata"]["name"]: item["metadata"]["labels"] for item in ALL if item["kind"] == "Namespace"}
    stand = [item for path in MANIFESTS if path.parent.name == "stand" for item in documents(path)]
    assert {item["metadata"]["namespace"] for item in stand if "namespace" in item["metadata"]} <= set(made)
    assert [name for name, labels in made.items() if "otel-control-gym/stand" in labels] == ["otel-demo"]


def test_every_object_of_a_stand_says_whose_it_is() -> None:
    for path in MANIFESTS:
        for document in documents(path):
            assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "otel-control-gym", path.name
