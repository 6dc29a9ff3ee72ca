"""How somebody reaches a cluster that is to be a stand, and what may be done to bring it to its known state.

Given by a caller or on a command line, never by a file of a configuration or scenario: a kubeconfig can name programs to be run, and a
scenario that is passed around mustn't.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from otel_control_gym.engine.errors import UsageError

__all__ = ("ClusterAccess", "ReceiverFiles", "ResetLevel", "Way", "listening_address", "packed", "unpacked")

ResetLevel = Literal["soft", "data", "reinstall"]
"""How a cluster is brought back before a run: chaos objects, autoscalers and specs; stateful services and their clients, too; anew."""

Way = Literal["proxy", "dns"]
"""How its services are reached: by the API server's proxy, which needs no way in but kubectl's; by the cluster's own names."""


class ReceiverFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What guards the address that takes spans and logs: TLS, and a token that each request has to show."""

    certificate: Path  #: PEM
    key: Path  #: PEM, without a password
    token: Path  #: one line


class ClusterAccess(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster, and the ways to it. A URL that is empty is filled in by `way`."""

    kubeconfig: Path | None  #: None: the cluster in whose pod this runs, with the account of the pod
    context: str = ""  #: of the kubeconfig; empty: its current one
    namespace: str = ""  #: of the application; empty: the context's, or `otel-demo`
    unmarked: bool = False  #: touch a namespace that isn't labelled as a gym's stand, too
    reset: ResetLevel = "soft"
    hold_seconds: float = 60.0  #: that error rate and latency lie in the stand's band after a reset; 0: nobody looks
    way: Way = "proxy"
    prometheus: str = ""
    coroot: str = ""
    jaeger: str = ""  #: its root; its query API is at `jaeger/ui/api` there
    load_generator: str = ""
    flagd: str = ""  #: flagd-ui's
    flagd_evaluation: str = ""  #: flagd's OFREP; empty where `flagd` is given: the same address
    receive: str = ""  #: `HOST:PORT` for the stand's collector; empty: spans are read from Jaeger, logs from pods
    receive_guard: ReceiverFiles | None = None  #: None: in the clear, from whoever reaches `receive`
    safekeeping: str = "ocg-system"  #: namespace of Leases and inverses


def packed(access: ClusterAccess) -> str:
    """Return how another process is told of a cluster on its command line; there is no secret in it."""
    return msgspec.json.encode(access, enc_hook=str).decode()


def unpacked(text: str) -> ClusterAccess:
    """Return what `packed` was given."""
    return msgspec.json.decode(text, type=ClusterAccess, dec_hook=lambda _kind, value: Path(value))


def listening_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.

    Raises: UsageError: it is none.
    """
    host, _, port = text.rpartition(":")
    if not (host and port.isdigit() and 1 < int(port) < 65536):
        raise UsageError(f"{text!r}: an address to listen on is HOST:PORT, as in 0.0.0.0:4318")
    return host.strip("[]"), int(port)
