"""Nothing is touched that isn't marked as a stand, and no file but a kubeconfig that was named says where to go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from otel_control_gym.engine.command_line.app import app
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.errors import ConfigurationError, StandError, UsageError
from otel_control_gym.stands.cluster.contexts import check_mark, endpoints_of
from otel_control_gym.stands.marks import MARK

if TYPE_CHECKING:
    from tests.stands.cluster.conftest import Open

OCG = (sys.executable, "-c", "from otel_control_gym.engine.command_line import main; main()")
NAMESPACE = "/api/v1/namespaces/otel-demo"


def kubeconfig(path: Path, server: str, **more: Any) -> Path:
    """Write a kubeconfig with two contexts that lead to one server."""
    contexts = [
        {"name": name, "context": {"cluster": "one", "user": "me", "namespace": namespace}}
        for name, namespace in (("first", "otel-demo"), ("second", "elsewhere"))
    ]
    document = {
        "current-context": "first",
        "contexts": contexts,
        "clusters": [{"name": "one", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump({**document, **more}))
    return path


def unmarked(_: str, path: str, found: Any) -> Any:
    return {"metadata": {"name": "otel-demo", "labels": {MARK: "false"}}} if path == NAMESPACE else None


async def ocg(*arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and what it printed."""
    done = await anyio.run_process([*OCG, *arguments], check=False)
    return done.returncode, done.stdout.decode()


async def test_a_namespace_that_is_marked_may_be_touched(cluster: Open) -> None:
    async with cluster(None) as endpoints:
        await check_mark(endpoints)


async def test_one_that_is_not_marked_is_refused_with_what_would_mark_it(cluster: Open) -> None:
    async with cluster(unmarked) as endpoints:
        with pytest.raises(StandError, match="kubectl label namespace otel-demo otel-control-gym/stand=true"):
            await check_mark(endpoints)


async def test_if_nobody_can_be_asked_it_is_refused(cluster: Open) -> None:
    async with cluster(None) as endpoints:
        with pytest.raises(StandError, match="can't be told: no answer"):
            await check_mark(msgspec.structs.replace(endpoints, kubernetes="http://127.0.0.1:1"))


@pytest.mark.parametrize("verbs", [("stand", "clean"), ("stand", "janitor", "--once")])
async def test_commands_that_change_a_stand_refuse_one_that_is_not_marked(
    verbs: tuple[str, ...], cluster: Open, tmp_path: Path
) -> None:
    written: list[str] = []

    def change(method: str, path: str, found: Any) -> Any:
        written.extend([path] * (method != "GET"))
        return unmarked(method, path, found)

    async with cluster(change) as endpoints:
        file = kubeconfig(tmp_path / "config", endpoints.kubernetes)

        code, said = await ocg(*verbs, "--kubeconfig", str(file), "--json")
        assert (code, json.loads(said)["error"]["type"], written) == (2, "StandError", [])
        if verbs == ("stand", "clean"):
            code, said = await ocg(*verbs, "--kubeconfig", str(file), "--json", "--unmarked")
            assert (code, json.loads(said)["clean"]) == (0, True)


def test_another_context_can_be_named(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "config", "http://127.0.0.1:1/")
    with endpoints_of(file) as current, endpoints_of(file, context="second", prometheus="http://p/") as named:
        assert (current.namespace, current.kubernetes, current.prometheus) == ("otel-demo", "http://127.0.0.1:1", "")
        assert (named.namespace, named.prometheus) == ("elsewhere", "http://p")
    with pytest.raises(UsageError, match="contexts has no 'third'"), endpoints_of(file, context="third"):
        pass


@pytest.mark.parametrize("key", ["kubeconfig", "context"])
def test_no_scenario_names_a_kubeconfig(key: str, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(f"name: sly\nservices: small-core\n{key}: /tmp/config\n")
    with pytest.raises(ConfigurationError, match=key):
        resolve(scenario)


async def test_doctor_says_what_it_found_as_one_document(cluster: Open, tmp_path: Path) -> None:
    async with cluster(unmarked) as endpoints:
        file = kubeconfig(tmp_path / "config", endpoints.kubernetes)
        urls = [
            word
            for name in ("prometheus", "coroot", "load_generator", "flagd")
            for word in (f"--{name.replace('_', '-')}", getattr(endpoints, name))
        ]
        code, told = await ocg("doctor", "--kubeconfig", str(file), *urls, "--json")
    document = json.loads(told)
    assert (code, document["healthy"]) == (1, False)
    mark = next(finding for finding in document["findings"] if finding["check"] == "mark")
    assert mark["status"] == "failed"
    assert mark["remedy"].startswith("if everything in it may be broken")


def test_people_are_shown_each_finding_with_its_remedy(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "config", "http://127.0.0.1:1")
    result = CliRunner().invoke(app, ["doctor", "--kubeconfig", str(file)])
    assert result.exit_code == 1
    assert "failed   Kubernetes: http://127.0.0.1:1: no answer" in result.stdout
    assert "is the cluster up" in result.stdout
    assert "no episode can run here: 1 failed" in result.stdout
