"""Where a stand's baseline lies: in a ConfigMap of the gym's namespace, which no policy can read, so that it outlives every gym.

In: a connection; a `Baseline`. Out: the one that was kept.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.clock import rfc3339, wall_now
from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.cluster.baseline import Baseline
from otel_control_gym.stands.cluster.connection import STRATEGIC_PATCH, Connection
from otel_control_gym.stands.cluster.manifests import PART_OF

__all__ = ("keep_baseline", "kept_baseline")

_KEY = "baseline"
_LABELS = {"app.kubernetes.io/managed-by": "otel-control-gym", **PART_OF}
_NOT_FOUND = 404


async def kept_baseline(connection: Connection) -> Baseline | None:
    """Return what is wanted of the stand; None: nobody has said yet.

    Raises: StandError: what was kept can't be read.
    """
    collection, name = _place(connection)
    answer = await connection.kubernetes("GET", f"{collection}/{name}")
    if answer.status == _NOT_FOUND:
        return None
    if not answer.ok:
        raise StandError(f"what is wanted of the stand can't be read from {collection}: {answer.problem}")
    try:
        return msgspec.json.decode(answer.text("data", _KEY), type=Baseline)
    except msgspec.DecodeError as error:
        raise StandError(
            f"ConfigMap {name} of namespace {connection.endpoints.safekeeping} can't be read: {error}\n"
            "  `ocg stand reset --adopt` writes it anew"
        ) from error


async def keep_baseline(connection: Connection, baseline: Baseline) -> None:
    """Keep what is wanted of the stand.

    Raises: StandError: it can't be kept.
    """
    collection, name = _place(connection)
    data = {_KEY: msgspec.json.encode(baseline).decode(), "adopted": rfc3339(wall_now())}
    metadata = {"name": name, "labels": _LABELS}
    answer = await connection.kubernetes(
        "PATCH",
        f"{collection}/{name}",
        body={"metadata": {"labels": _LABELS}, "data": data},
        content_type=STRATEGIC_PATCH,
    )
    if answer.status == _NOT_FOUND:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        answer = await connection.kubernetes("POST", collection, body=body)
    if not answer.ok:
        raise StandError(
            f"what is wanted of the stand can't be kept in namespace {connection.endpoints.safekeeping}: {answer.problem}"
        )


def _place(connection: Connection) -> tuple[str, str]:
    endpoints = connection.endpoints
    return f"api/v1/namespaces/{endpoints.safekeeping}/configmaps", f"ocg-baseline-{endpoints.namespace}"
