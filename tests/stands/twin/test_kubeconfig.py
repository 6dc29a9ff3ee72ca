"""A kubeconfig is there as long as its twin is, for its owner only, and no other file is touched."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.twin.credentials import Credentials, issue_credentials
from otel_control_gym.stands.twin.kubeconfig import kubeconfig, kubeconfig_file

ENDPOINTS = Endpoints(
    kubernetes="https://127.0.0.1:1", namespace="shop", prometheus="", coroot="", load_generator="", flagd=""
)


def refuse(path: Path, document: dict[str, Any], words: str, *, overwrite: bool = False) -> str:
    """Check that the file isn't written, and return the reason."""
    with pytest.raises(UsageError, match=words) as refusal, kubeconfig_file(path, document, overwrite=overwrite):
        pass
    return str(refusal.value)


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    return issue_credentials("127.0.0.1")


@pytest.fixture
def document(credentials: Credentials) -> dict[str, Any]:
    return kubeconfig(ENDPOINTS, credentials, name="twin")


def test_it_holds_all_that_a_client_needs(tmp_path: Path, credentials: Credentials, document: dict[str, Any]) -> None:
    path = tmp_path / "deep" / "kubeconfig"
    with kubeconfig_file(path, document, overwrite=False):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        written = yaml.safe_load(path.read_text())
        assert list(path.parent.iterdir()) == [path]
    assert not path.exists()
    (cluster,), (user,), (context,) = written["clusters"], written["users"], written["contexts"]
    assert cluster["cluster"]["server"] == ENDPOINTS.kubernetes
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == credentials.authority
    assert user["user"]["token"] == credentials.token
    assert context["context"] == {"cluster": cluster["name"], "user": user["name"], "namespace": "shop"}
    assert written["current-context"] == context["name"]


def test_a_file_that_no_twin_has_written_is_left_alone_unless_its_owner_says_so(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    path = tmp_path / "config"
    for content in ("apiVersion: v1\nkind: Config\n", "not: [yaml", "", "- 1\n"):
        path.write_text(content)
        refuse(path, document, r"no twin has written it\n.*--overwrite")
        assert path.read_text() == content
    with kubeconfig_file(path, document, overwrite=True):
        assert yaml.safe_load(path.read_text()) == document
    assert not path.exists()


def test_a_living_twins_file_is_kept_and_a_dead_ones_replaced(
    tmp_path: Path, credentials: Credentials, document: dict[str, Any]
) -> None:
    path = tmp_path / "config"
    other = kubeconfig(ENDPOINTS, issue_credentials("127.0.0.1"), name="other")
    with kubeconfig_file(path, document, overwrite=False):
        for overwrite in (False, True):
            refuse(path, other, r"being served by process \d+", overwrite=overwrite)
        assert yaml.safe_load(path.read_text()) == document
        left = path.read_bytes()
    path.write_bytes(left)  # as after a crash
    with kubeconfig_file(path, other, overwrite=False):
        assert yaml.safe_load(path.read_text()) == other


def test_what_somebody_else_has_put_there_meanwhile_stays(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "config"
    with kubeconfig_file(path, document, overwrite=False):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"
    path.unlink()
    with kubeconfig_file(path, document, overwrite=False):
        path.unlink()
    assert not path.exists()


def test_a_link_stays_one(tmp_path: Path, document: dict[str, Any]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with kubeconfig_file(tmp_path / "link", document, overwrite=False):
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "file").is_file()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, document: dict[str, Any]) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "kubeconfig", tmp_path):
        with (
            pytest.raises(UsageError, match="--kubeconfig PATH") as refusal,
            kubeconfig_file(path, document, overwrite=True),
        ):
            pass
        assert str(path) in str(refusal.value)
