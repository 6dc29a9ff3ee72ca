"""Statuses: what a protocol says of how a call ended.

In: outcomes. Out: the number that is written into spans and counted per edge: HTTP's status code, gRPC's, and 0 or 1 (ok, failed) for
databases, caches and brokers, as Coroot has them. A call over HTTP that nobody answered has none: 0.

A gRPC client gives such a call a status of its own: UNAVAILABLE if it was refused or lost, DEADLINE_EXCEEDED if it was given up. A
proxy makes an answer of it (Envoy: 503 if nobody could be reached, 502 if the connection was reset, 504 if time was up).

Which status makes a *span* an error differs between the two ends (OpenTelemetry's semantic conventions for HTTP and gRPC spans): a
client's is an error whenever the call didn't succeed, a server's only if the server is to blame.
"""

from __future__ import annotations

from typing import Final

import msgspec

from otel_control_gym.stands.twin.compilation import compiled

__all__ = ("BOUNDS", "DEFAULTS", "GRPC", "HTTP", "LARGEST", "OTHER", "PROTOCOLS", "Statuses", "blames_server")

HTTP: Final = 0
GRPC: Final = 1
OTHER: Final = 2
PROTOCOLS: Final = {"http": HTTP, "grpc": GRPC, "sql": OTHER, "resp": OTHER, "kafka": OTHER}
LARGEST: Final = 599  #: status

CANCELLED: Final = 1
UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15


class Statuses(msgspec.Struct, frozen=True, kw_only=True):
    """A protocol's statuses of the ends that a call can have by itself."""

    ok: int
    error: int  #: unless something else is said
    gone: int  #: seen by a caller that was refused, or whose connection was lost
    late: int  #: seen by a caller that gave up


#: By `PROTOCOLS`.
DEFAULTS: Final = (
    Statuses(ok=200, error=500, gone=0, late=0),
    Statuses(ok=0, error=INTERNAL, gone=UNAVAILABLE, late=DEADLINE_EXCEEDED),
    Statuses(ok=0, error=1, gone=1, late=1),
)
#: Statuses that say that something went wrong, first and last, by `PROTOCOLS`.
BOUNDS: Final = ((400, LARGEST), (CANCELLED, 16), (1, 1))


@compiled
def blames_server(protocol: int, status: int) -> bool:
    """Return whether a status other than ok makes the server's span an error."""
    if protocol == HTTP:
        return status >= 500
    if protocol == GRPC:
        return status in (UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS)
    return True
