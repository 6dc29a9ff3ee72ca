"""The kubeconfig of a served twin: a file that stock tools read, there as long as its twin is.

In: where the API is, and its credentials. Out: a file that only its owner may read, written whole or not at all, removed at the end.

A kubeconfig may hold the keys to real clusters, so a file that no twin has written isn't touched unless its owner says so; ours bear a
mark among their `extensions`, which kubectl keeps when it edits them. A twin holds a lock on its file while it lives: one that a crashed
twin has left is replaced, one of a living twin is not.
"""

from __future__ import annotations

import base64
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.twin.credentials import Credentials

__all__ = ("kubeconfig", "kubeconfig_file")

_MARK = "otel-control-gym.twin"


def kubeconfig(endpoints: Endpoints, credentials: Credentials, *, name: str) -> dict[str, Any]:
    """Return the configuration with which kubectl and client libraries reach the twin; `name` is its context's."""
    cluster = {
        "server": endpoints.kubernetes,
        "certificate-authority-data": base64.b64encode(credentials.authority).decode(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": credentials.token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": endpoints.namespace}}],
        "current-context": name,
        "extensions": [{"name": _MARK, "extension": {"process": os.getpid()}}],
    }


@contextmanager
def kubeconfig_file(path: Path, document: dict[str, Any], *, overwrite: bool) -> Iterator[None]:
    """Have a kubeconfig at `path` inside; at the end it is removed, unless somebody has put another one there meanwhile.

    Args:
        overwrite: whether a file that isn't a twin's may be replaced.

    Raises: UsageError: it may not, or belongs to another living twin, or can't be written.
    """
    token = document["users"][0]["user"]["token"].encode()
    try:
        target = path.resolve()  # a link stays one
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            _check(target, overwrite=overwrite)
        lock = _write(target, yaml.safe_dump(document, sort_keys=False).encode())
    except OSError as error:
        problem = error.strerror or str(error)
        raise UsageError(
            f"the kubeconfig can't be written: {path}: {problem}\n  name another file: --kubeconfig PATH"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # who removed it, or its folder, did our work
            if token in target.read_bytes():
                target.unlink()
        os.close(lock)


def _check(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that may not be replaced."""
    try:
        found = yaml.safe_load(path.read_bytes())
        marks = [item["extension"] for item in found["extensions"] if item["name"] == _MARK]
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        marks = []
    if not marks:
        if not overwrite:
            raise UsageError(
                f"{path} is there, and no twin has written it\n"
                "  name another file: --kubeconfig PATH; or say that it may be replaced, and removed at the end: --overwrite"
            )
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{path} leads to a twin that is being served by process {marks[0].get('process')}\n"
                "  end that one, or name another file for this one: --kubeconfig PATH"
            ) from None


def _write(path: Path, content: bytes) -> int:
    """Write a file under a temporary name, put it in its place, and return it open and locked."""
    file, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # readable by its owner only
    try:
        os.write(file, content)
        fcntl.flock(file, fcntl.LOCK_EX)
        Path(temporary).replace(path)
    except OSError:
        os.close(file)
        Path(temporary).unlink(missing_ok=True)
        raise
    return file
