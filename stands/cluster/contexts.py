"""A kubeconfig ➜ where it leads, and whether what is there may be broken.

In: a kubeconfig's file and the name of one of its contexts, which come from the command line or the environment alone: a kubeconfig can
name programs to be run, so no file of a scenario or of a configuration may name one. Out: `Endpoints`; whether a namespace is marked as a
gym's stand.

The mark is a label on the namespace, `otel-control-gym/stand: "true"`. Whoever sets it says that everything in there may be scaled,
killed and broken at any time. Without it nothing is touched, unless that is told explicitly.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.marks import MARK

__all__ = ("check_mark", "endpoints_of", "is_marked")


def endpoints_of(
    kubeconfig: Path,
    *,
    context: str = "",
    prometheus: str = "",
    coroot: str = "",
    load_generator: str = "",
    flagd: str = "",
) -> AbstractContextManager[Endpoints]:
    """Return where a context of a kubeconfig leads (empty: the current one); an authority in it lies in a file meanwhile.

    Raises: UsageError: the file can't be read, has no such context, or names no server, or its user has no token.
    """
    urls = {"prometheus": prometheus, "coroot": coroot, "load_generator": load_generator, "flagd": flagd}
    return _endpoints(kubeconfig, context, {name: url.rstrip("/") for name, url in urls.items()})


@contextmanager
def _endpoints(kubeconfig: Path, name: str, urls: Mapping[str, str]) -> Iterator[Endpoints]:
    document = _read(kubeconfig)
    context = _named(document, "contexts", name or document.get("current-context", ""), kubeconfig)["context"]
    cluster = _named(document, "clusters", context["cluster"], kubeconfig)["cluster"]
    user = _named(document, "users", context["user"], kubeconfig)["user"]
    if "token" not in user:
        raise UsageError(f"{kubeconfig}: user {context['user']!r} has no token: other credentials aren't supported yet")
    with tempfile.TemporaryDirectory() as folder:
        authority = cluster.get("certificate-authority", "")
        if "certificate-authority-data" in cluster:
            file = Path(folder) / "ca.crt"
            file.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
            authority = str(file)
        yield Endpoints(
            kubernetes=cluster["server"].rstrip("/"),
            namespace=context.get("namespace", "otel-demo"),
            kubernetes_token=user["token"],
            kubernetes_ca_file=authority,
            **urls,
        )


def _read(kubeconfig: Path) -> dict[str, Any]:
    try:
        found = msgspec.yaml.decode(kubeconfig.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{kubeconfig}: can't be read as a kubeconfig: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{kubeconfig}: is no kubeconfig")
    return found


def _named(document: dict[str, Any], kind: str, name: str, kubeconfig: Path) -> dict[str, Any]:
    for entry in document.get(kind) or ():
        if entry.get("name") == name:
            found: dict[str, Any] = entry
            return found
    raise UsageError(f"{kubeconfig}: {kind} has no {name!r}")


def is_marked(answer: Answer) -> bool:
    """Return whether a namespace, as the API server told it, is marked as a gym's stand."""
    return answer.text("metadata", "labels", MARK) == "true"


async def check_mark(endpoints: Endpoints) -> None:
    """Refuse a namespace that isn't marked.

    Raises:
        StandError: it isn't, or isn't there, or nobody can be asked.
    """
    namespace = endpoints.namespace
    async with Connection(endpoints) as connection:
        answer = await connection.kubernetes("GET", f"api/v1/namespaces/{namespace}")
    if not answer.ok:
        raise StandError(
            f"{endpoints.kubernetes}: whether namespace {namespace} is a gym's stand can't be told: {answer.problem}"
        )
    if not is_marked(answer):
        raise StandError(
            f"{endpoints.kubernetes}: namespace {namespace} isn't marked as a gym's stand, so nothing in it is touched\n"
            f"  if everything in it may be broken: kubectl label namespace {namespace} {MARK}=true; for this once: --unmarked"
        )
