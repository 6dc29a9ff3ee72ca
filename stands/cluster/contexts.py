"""A kubeconfig ➜ where it leads, as whom, and whether what is there may be broken.

In: a kubeconfig's file and the name of one of its contexts, which come from the command line or the environment alone: a kubeconfig can
name programs to be run, so no file of a scenario or of a configuration may name one. Out: `Endpoints` with `ClusterCredentials`; whether a
namespace is marked as a gym's stand.

The mark is a label on the namespace, `otel-control-gym/stand: "true"`. Whoever sets it says that everything in there may be scaled,
killed and broken at any time. Without it nothing is touched, unless that is told explicitly.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.cluster.credentials import ClusterCredentials, Identity, Source, Token, TokenFile
from otel_control_gym.stands.cluster.plugins import Plugin, PluginSection
from otel_control_gym.stands.cluster.proxies import proxy_for
from otel_control_gym.stands.marks import MARK

__all__ = ("account_in_pod", "check_mark", "endpoints_of", "is_marked", "trust")

T = TypeVar("T")

_PLUGINS_CLUSTER = "client.authentication.k8s.io/exec"  #: extension of a cluster, for plugins


class _Extension(msgspec.Struct):
    name: str
    extension: Any = None


class _Cluster(msgspec.Struct, rename="kebab"):
    """`clusters[].cluster`."""

    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    extensions: list[_Extension] | None = None


class _User(msgspec.Struct, rename="kebab"):
    """`users[].user`."""

    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    exec: PluginSection | None = None
    username: str = ""
    auth_provider: Any = None
    as_user: str = msgspec.field(name="as", default="")
    as_uid: str = ""
    as_groups: list[str] | None = None
    as_user_extra: Any = None


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
    cluster = _converted(named, _Cluster, f"{kubeconfig}: cluster {context['cluster']!r}")
    whose = f"{kubeconfig}: user {context.get('user', '')!r}"
    user = _converted(_named(document, "users", context.get("user", ""), kubeconfig, "user"), _User, whose)
    with tempfile.TemporaryDirectory() as folder:
        files = _Files(kubeconfig.parent, Path(folder))
        authority = files.find(
            "certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority
        )
        source = _source(user, whose, cluster, files)
        credentials = ClusterCredentials(
            source,
            trust(authority, verified=not cluster.insecure_skip_tls_verify),
            proxy=proxy_for(cluster.server, cluster.proxy_url),
            server_name=cluster.tls_server_name,
            headers=_impersonation(user),
        )
        yield Endpoints(
            kubernetes=cluster.server.rstrip("/"),
            namespace=context.get("namespace", "otel-demo"),
            kubernetes_token=user.token,
            kubernetes_ca_file=authority,
            kubernetes_credentials=credentials,
            **urls,
        )


class _Files:
    """Files that a kubeconfig names or holds."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.folder = home, folder

    def find(self, what: str, data: str, path: str) -> str:
        """Return where something lies that is given in base64, or else as a path, relative to the kubeconfig; empty: it isn't given.

        Raises: UsageError: it isn't there, or is no base64.
        """
        if data:
            try:
                content = base64.b64decode(data, validate=False)
            except binascii.Error as error:
                raise UsageError(f"{what}-data of the kubeconfig is no base64: {error}") from error
            file = self.folder / what
            file.touch(mode=0o600)
            file.write_bytes(content)
            return str(file)
        found = self.home / path
        if path and not found.is_file():
            raise UsageError(f"{what} of the kubeconfig isn't there: {found}")
        return str(found) if path else ""


def _source(user: _User, whose: str, cluster: _Cluster, files: _Files) -> Source:
    if user.auth_provider is not None:
        raise UsageError(f"{whose} has an auth-provider, which Kubernetes' own clients gave up\n  use a plugin (exec)")
    if user.username:
        raise UsageError(
            f"{whose} has a password, which no API server takes since 1.19\n  use a token or a certificate"
        )
    if user.as_user_extra:
        raise UsageError(f"{whose} has as-user-extra, which isn't supported\n  use as and as-groups")
    if user.exec is not None:
        if user.exec.interactive_mode == "Always":
            raise UsageError(f"{whose} has a plugin that wants a terminal (interactiveMode: Always), and gets none")
        return Plugin(user.exec, files.home, files.folder, _told(cluster))
    chain = files.find("client-certificate", user.client_certificate_data, user.client_certificate)
    key = files.find("client-key", user.client_key_data, user.client_key)
    if bool(chain) != bool(key):
        raise UsageError(f"{whose} has one of client-certificate and client-key: both are needed")
    certificate = (Path(chain), Path(key)) if chain else None
    if user.token_file:
        return TokenFile(files.home / user.token_file, certificate)
    if not user.token and certificate is None:
        raise UsageError(f"{whose} has no token, no token's file, no certificate and no plugin: nobody would let it in")
    return Token(Identity(token=user.token, certificate=certificate))


def _told(cluster: _Cluster) -> dict[str, Any]:
    """Return what a plugin is told of a cluster (ExecCredential.spec.cluster)."""
    told = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": cluster.certificate_authority_data,
        "proxy-url": cluster.proxy_url,
        "config": next((each.extension for each in cluster.extensions or () if each.name == _PLUGINS_CLUSTER), None),
    }
    return {key: value for key, value in told.items() if value}


def _impersonation(user: _User) -> list[tuple[str, str]]:
    named = [("User", user.as_user), ("Uid", user.as_uid), *(("Group", group) for group in user.as_groups or ())]
    return [(f"Impersonate-{kind}", name) for kind, name in named if name]


def trust(authority: str, *, verified: bool = True) -> ssl.SSLContext:
    """Return TLS that trusts an authority's file (empty: the machine's), or with `verified` false whoever answers.

    Raises: UsageError: the file holds no certificate.
    """
    try:
        tls = ssl.create_default_context(cafile=authority or None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the cluster's authority can't be read: {authority}: {error}") from error
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python 3.13 refuses the usual cluster CA: no key identifiers
    if not verified:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


def account_in_pod(folder: Path, server: str) -> ClusterCredentials:
    """Return the account of the pod in which this runs, whose token a kubelet exchanges in `folder`, for its API server."""
    return ClusterCredentials(TokenFile(folder / "token"), trust(str(folder / "ca.crt")), proxy=proxy_for(server))


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
