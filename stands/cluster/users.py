"""What a kubeconfig says of a cluster and of a user ➜ whom to trust, and where the user's identity comes from.

In: `clusters[].cluster` and `users[].user`, as they are written there. Out: TLS, a `Source`, headers. What a kubeconfig can say and nobody
should use any more (passwords, auth-providers) is refused in one sentence. `contexts` puts all of it together.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from pathlib import Path
from typing import Any

import msgspec

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.stands.cluster.credentials import Identity, Source, Token, TokenFile
from otel_control_gym.stands.cluster.plugins import Plugin, PluginSection

__all__ = ("Cluster", "Files", "User", "impersonation", "source_of", "trust")

_PLUGINS_CLUSTER = "client.authentication.k8s.io/exec"  #: extension of a cluster, for plugins


class _Extension(msgspec.Struct):
    name: str
    extension: Any = None


class Cluster(msgspec.Struct, rename="kebab"):
    """`clusters[].cluster`."""

    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    extensions: list[_Extension] | None = None


class User(msgspec.Struct, rename="kebab"):
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


class Files:
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


def source_of(user: User, whose: str, cluster: Cluster, files: Files) -> Source:
    """Return where a user's identity comes from; `whose` is what an error calls the user.

    Raises: UsageError: from nowhere, or from what isn't supported.
    """
    if user.auth_provider is not None:
        raise UsageError(f"{whose} has an auth-provider, which isn't supported\n  use a plugin (exec)")
    if user.username:
        raise UsageError(
            f"{whose} has a password, which no API server takes since 1.19\n  use a token or a certificate"
        )
    if user.as_user_extra:
        raise UsageError(f"{whose} has as-user-extra, which isn't supported\n  use as and as-groups")
    if user.exec is not None:
        if user.exec.interactive_mode == "Always":
            raise UsageError(f"{whose} has a plugin that wants a terminal (interactiveMode: Always), and gets none")
        return Plugin(user.exec, files.home, files.folder, _told(cluster, files))
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


def _told(cluster: Cluster, files: Files) -> dict[str, Any]:
    """Return what a plugin is told of a cluster (ExecCredential.spec.cluster)."""
    authority = files.find("certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority)
    told = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": base64.b64encode(Path(authority).read_bytes()).decode() if authority else "",
        "proxy-url": cluster.proxy_url,
        "config": next((each.extension for each in cluster.extensions or () if each.name == _PLUGINS_CLUSTER), None),
    }
    return {key: value for key, value in told.items() if value}


def impersonation(user: User) -> list[tuple[str, str]]:
    """Return the headers by which a user acts as another; none: as itself."""
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
