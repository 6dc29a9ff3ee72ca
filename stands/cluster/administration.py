"""An administrator's kubeconfig ➜ the Kubernetes API, on which a stand is installed and removed.

In: a kubeconfig's file, one of its contexts. Out: an `Administrator`: a `Connection` that can also apply.

Whoever installs a stand comes with the kubeconfig that kind, k3s or a provider wrote: `contexts` reads its client certificates, programs
that fetch tokens, proxies. A program that a kubeconfig names is run, which is why a kubeconfig comes from the command line or the
environment alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.stands.cluster.connection import MERGE_PATCH, Answer, Connection
from otel_control_gym.stands.cluster.contexts import endpoints_of
from otel_control_gym.stands.cluster.parts import SYSTEM

__all__ = ("APPLY", "FIELD_MANAGER", "Administrator", "open_administrator")

APPLY = "application/apply-patch+yaml"
FIELD_MANAGER = "ocg-stand"  #: under which an installation applies; a gym's actions have another


class Administrator(Connection):
    """To the API server of a cluster, with the rights of a kubeconfig's user."""

    answer_seconds = 60.0  #: webhooks may be asked on the way

    async def apply(self, path: str, document: Mapping[str, Any]) -> Answer:
        """Make an object what a document says, whoever has said otherwise (server-side apply)."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self.kubernetes("PATCH", path, body=dict(document), query=query, content_type=APPLY)

    async def merge(self, path: str, change: Mapping[str, Any]) -> Answer:
        """Change some fields of an object."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self.kubernetes("PATCH", path, body=dict(change), query=query, content_type=MERGE_PATCH)

    async def delete(self, path: str) -> Answer:
        """Delete an object and what depends on it."""
        return await self.kubernetes("DELETE", path, query={"propagationPolicy": "Background"})


@asynccontextmanager
async def open_administrator(kubeconfig: Path, *, context: str = "", namespace: str) -> AsyncIterator[Administrator]:
    """Open the API of a context's cluster (empty: the current one) for the stand in `namespace`; closed on exit.

    Raises: UsageError: the file can't be read as a kubeconfig, has no such context, or its credentials can't be had.
    """
    if not await anyio.Path(kubeconfig).is_file():
        raise UsageError(f"{kubeconfig}: is no file: name a kubeconfig by --kubeconfig or KUBECONFIG")
    with endpoints_of(kubeconfig, context=context) as found:
        there = msgspec.structs.replace(found, namespace=namespace, safekeeping=SYSTEM)
        async with Administrator(there) as administrator:
            yield administrator
