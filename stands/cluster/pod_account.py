"""The cluster in whose pod this runs, and the account of the pod: the way of a janitor, and of a gym that lives beside its stand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.contexts import account_in_pod

__all__ = ("SERVICE_ACCOUNT", "endpoints_in_pod")

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  #: where a pod finds its credentials


@contextmanager
def endpoints_in_pod(*, load_generator: str = "", flagd: str = "") -> Iterator[Endpoints]:
    """Return the API server of the cluster in whose pod this runs, with the account of the pod.

    Raises: UsageError: this is no pod.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        token = (SERVICE_ACCOUNT / "token").read_text().strip()
        namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip()
    except OSError as error:
        raise UsageError(f"no kubeconfig is given, and this is no pod with an account: {error}") from error
    if not host:
        raise UsageError("no kubeconfig is given, and KUBERNETES_SERVICE_HOST isn't set: this is no pod")
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    yield Endpoints(
        kubernetes=server,
        namespace=namespace,
        prometheus="",
        coroot="",
        load_generator=load_generator.rstrip("/"),
        flagd=flagd.rstrip("/"),
        kubernetes_token=token,
        kubernetes_ca_file=str(SERVICE_ACCOUNT / "ca.crt"),
        kubernetes_credentials=account_in_pod(SERVICE_ACCOUNT, server),
    )
