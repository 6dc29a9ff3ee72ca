"""What guards a served Kubernetes API: a certificate authority of its own, a server certificate, a bearer token.

In: the host that the server is reached at. Out: a TLS context, the authority's certificate for clients to trust, a token for them to show.
All three are made anew each time and live in memory only, with the server; the kubeconfig carries what a client needs.

The embedded twin does without: it is plain HTTP on the loopback, on ports that nobody else knows. A served one has to be guarded, because
kubectl sends no token over plain HTTP.
"""

from __future__ import annotations

import secrets
import socket
import ssl

import msgspec

from otel_control_gym.stands.twin.servers.listening import reachable

__all__ = ("Credentials", "issue_credentials")

_NAMES = ("localhost", "127.0.0.1", "::1")


class Credentials(msgspec.Struct, frozen=True, eq=False):
    """Of one server."""

    token: str
    authority: bytes  #: PEM
    tls: ssl.SSLContext  #: for the server


def issue_credentials(host: str) -> Credentials:
    """Return new credentials for a server that listens on `host`; its certificate also names the loopback.

    A server that listens on all addresses is named by the machine's host name too.
    """
    import trustme  # late: it takes 0.1 s, and the embedded twin never needs it

    names = dict.fromkeys((*_NAMES, host if reachable(host) == host else socket.gethostname()))
    authority = trustme.CA(
        organization_name="otel-control-gym", organization_unit_name="certificate authority of a twin"
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    authority.issue_cert(*names, common_name="otel-control-gym twin").configure_cert(context)
    return Credentials(secrets.token_urlsafe(32), authority.cert_pem.bytes(), context)
