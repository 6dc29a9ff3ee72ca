"""A kubeconfig ➜ where it leads, as whom, and whether what is there may be broken.

In: a kubeconfig's file and the name of one of its contexts, which come from the command line or the environment alone: a kubeconfig can
name programs to be run, so no file of a scenario or of a configuration may name one. Out: `Endpoints` with `ClusterCredentials`; whether a
namespace is marked as a gym's stand.

The mark is a label on the namespace, `otel-control-gym/stand: "true"`. Whoever sets it says that everything in there may be scaled,
killed and broken at any time. Without it nothing is touched, unless that is told explicitly.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.cluster.credentials import ClusterCredentials, TokenFile
from otel_control_gym.stands.cluster.proxies import proxy_for
from otel_control_gym.stands.cluster.users import Cluster, Files, User, impersonation, source_of, trust
from otel_control_gym.stands.marks import MARK

__all__ = ("account_in_pod", "check_mark", "endpoints_of", "is_marked")

T = TypeVar("T")


def endpoints_of(
    kubeconfig: Path,
    *,
    context: str = "",
    prometheus: str = "",
    coroot: str = "",
    load_generator: str = "",
    flagd: str = "",
) -> AbstractContextManager[Endpoints]:
    """Return where a context of a kubeconfig leads (empty: the current one); keys and authorities in it lie in files meanwhile.

    Raises: UsageError: the file can't be read, has no such context, names no server, or nothing that its user would be let in for.
    """
    urls = {"prometheus": prometheus, "coroot": coroot, "load_generator": load_generator, "flagd": flagd}
    return _endpoints(kubeconfig, context, {name: url.rstrip("/") for name, url in urls.items()})


@contextmanager
def _endpoints(kubeconfig: Path, name: str, urls: Mapping[str, str]) -> Iterator[Endpoints]:
    document = _read(kubeconfig)
    context = _named(document, "contexts", name or document.get("current-context", ""), kubeconfig, "context")
    named = _named(document, "clusters", context.get("cluster", ""), kubeconfig, "cluster")
    cluster = _converted(named, Cluster, f"{kubeconfig}: cluster {context['cluster']!r}")
    whose = f"{kubeconfig}: user {context.get('user', '')!r}"
    user = _converted(_named(document, "users", context.get("user", ""), kubeconfig, "user"), User, whose)
    with tempfile.TemporaryDirectory() as folder:
        files = Files(kubeconfig.parent, Path(folder))
        authority = files.find(
            "certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority
        )
        source = source_of(user, whose, cluster, files)
        credentials = ClusterCredentials(
            source,
            trust(authority, verified=not cluster.insecure_skip_tls_verify),
            proxy=proxy_for(cluster.server, cluster.proxy_url),
            server_name=cluster.tls_server_name,
            headers=impersonation(user),
        )
        yield Endpoints(
            kubernetes=cluster.server.rstrip("/"),
            namespace=context.get("namespace", "otel-demo"),
            kubernetes_token=user.token,
            kubernetes_ca_file=authority,
            kubernetes_credentials=credentials,
            **urls,
        )


def account_in_pod(folder: Path, server: str) -> ClusterCredentials:
    """Return the account of the pod in which this runs, whose token a kubelet exchanges in `folder`, for its API server.

    Without the authority's file there the machine's authorities are trusted, as Kubernetes' own clients do it.
    """
    authority = folder / "ca.crt"
    tls = trust(str(authority) if authority.is_file() else "")
    return ClusterCredentials(TokenFile(folder / "token"), tls, proxy=proxy_for(server))


def _read(kubeconfig: Path) -> dict[str, Any]:
    try:
        found = msgspec.yaml.decode(kubeconfig.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{kubeconfig}: can't be read as a kubeconfig: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{kubeconfig}: is no kubeconfig")
    return found


def _named(document: dict[str, Any], kind: str, name: str, kubeconfig: Path, within: str) -> dict[str, Any]:
    for entry in document.get(kind) or ():
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(within) or {}
            if isinstance(found, dict):
                return found
    raise UsageError(f"{kubeconfig}: {kind} has no {name!r}")


def _converted(found: dict[str, Any], kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from error


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
