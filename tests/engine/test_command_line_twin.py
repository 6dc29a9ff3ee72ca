"""`ocg twin serve`: it tells where everything is, lives until it is told to end, and a mistake gets one clear message."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from otel_control_gym.engine.command_line.app import app

OCG = (sys.executable, "-c", "from otel_control_gym.engine.command_line import main; main()")


@contextmanager
def served(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Serve a twin on free ports by another process, which is ended on exit if it still lives."""
    process = subprocess.Popen(
        [*OCG, "twin", "serve", "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def document(process: subprocess.Popen[str]) -> Any:
    """Return the JSON document, which ends with the first line that closes it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    return json.loads("".join(lines))


def mistaken(*arguments: str | Path) -> str:
    """Return the one message of a command that is wrong."""
    result = CliRunner().invoke(app, ["twin", "serve", *map(str, arguments)])
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_lives_until_it_is_told_to_end_and_takes_its_kubeconfig_along(tmp_path: Path, sent: signal.Signals) -> None:
    with served("small-core", "--seed", "3", "--json", "--data-dir", str(tmp_path)) as process:
        told = document(process)
        kubeconfig = Path(told["kubeconfig"])
        assert kubeconfig == tmp_path / "twin" / "small-core.kubeconfig"
        assert yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"] == told["kubernetes"]
        assert (told["config"], told["seed"], told["pace"], told["process"]) == ("small-core", 3, 1.0, process.pid)
        assert told["metrics"] == f"{told['prometheus']}/metrics"
        assert process.poll() is None
        process.send_signal(sent)
        rest, said = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    assert "the twin has ended" in said
    assert not kubeconfig.exists()


def test_people_are_shown_the_addresses_and_what_to_do_with_them(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "my config"
    with served("--kubeconfig", str(kubeconfig), "--config", "small-core") as process:
        assert process.stdout is not None
        shown = ""
        while "Ctrl-C" not in shown:
            shown += process.stdout.readline()
    for name in ("Kubernetes", "Prometheus", "Coroot", "load generator", "flagd"):
        assert re.search(rf"{name} +https?://127\.0\.0\.1:\d+", shown)
    assert f"export KUBECONFIG='{kubeconfig}'" in shown
    assert "kubectl get pods" in shown


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = mistaken("--port", str(port), "--data-dir", tmp_path)
    assert f"port {port} of 127.0.0.1 is in use" in message
    assert not list(tmp_path.rglob("*.kubeconfig"))


def test_a_kubeconfig_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "kubeconfig"
    assert f"the kubeconfig can't be written: {path}" in mistaken("--port", "0", "--kubeconfig", path)


def test_a_kubeconfig_of_somebody_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("apiVersion: v1\n")
    assert "no twin has written it" in mistaken("--port", "0", "--kubeconfig", path)
    assert path.read_text() == "apiVersion: v1\n"


def test_an_unknown_configuration_gets_the_nearest_name() -> None:
    assert "did you mean 'small-core'" in mistaken("smal-core")


def test_two_configurations_are_one_too_many() -> None:
    assert "name one" in mistaken("small-core", "--config", "quickstart")


@pytest.mark.parametrize("pace", ["0", "-2"])
def test_a_pace_that_is_none_is_refused(tmp_path: Path, pace: str) -> None:
    assert "must be a number above 0" in mistaken("--pace", pace, "--data-dir", tmp_path)
