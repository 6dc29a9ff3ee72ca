"""Who may push spans and logs to the gym, where others reach its address: whoever shows the token, over TLS.

In: the files of a certificate, its key and a token. Out: a `Guard`; `otlp_http` and `otlp_grpc` listen with its certificate and ask it
about each request. A run's telemetry decides what models learn, so a stranger's spans in it are worse than none.
"""

from __future__ import annotations

import secrets
import ssl
from pathlib import Path

import msgspec

from otel_control_gym.engine.cluster_access import ReceiverFiles
from otel_control_gym.engine.errors import UsageError

__all__ = ("REFUSAL", "Guard", "read_guard")

REFUSAL = "the request shows no token, or another one: Authorization: Bearer TOKEN"


class Guard(msgspec.Struct, frozen=True, eq=False):
    """Of one receiver; nothing of it is shown to anybody or written anywhere."""

    certificate: bytes  #: PEM, with the authorities between it and the root, if any
    key: bytes  #: PEM
    token: bytes
    tls: ssl.SSLContext  #: with the same certificate

    def admits(self, authorization: str) -> bool:
        """Return whether an Authorization header shows the token."""
        scheme, _, shown = authorization.partition(" ")
        # Compared in constant time: how long a refusal takes tells nothing of how much was right.
        return scheme.lower() == "bearer" and secrets.compare_digest(shown.strip().encode(), self.token)


def read_guard(files: ReceiverFiles) -> Guard:
    """Return the guard that files describe.

    Raises: UsageError: one of them can't be read, or doesn't hold what it should.
    """
    certificate, key, token = (_content(path) for path in (files.certificate, files.key, files.token))
    token = token.strip()
    if not token or not all(0x21 <= byte <= 0x7E for byte in token):
        raise UsageError(
            f"{files.token}: holds no token\n  one line of letters, digits and signs, without blanks: openssl rand -hex 32"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(files.certificate, files.key, password="")
    except ssl.SSLError as error:
        raise UsageError(
            f"{files.certificate} and {files.key} are no certificate with its key: {error.reason or error}\n"
            "  both in PEM, the key without a password"
        ) from error
    return Guard(certificate, key, token, context)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror or error}") from error
