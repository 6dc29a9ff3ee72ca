"""A kubeconfig with an administrator's rights ➜ the Kubernetes API, with whatever credentials it holds.

In: a kubeconfig's file, one of its contexts. Out: an `Administrator`, which answers as a `Connection` does and can also apply.

Whoever installs a stand comes with the kubeconfig that kind, k3s or a provider wrote: client certificates, programs that fetch tokens,
proxies. kubernetes_asyncio reads all of these; of it nothing else is used, because its models are slow and its errors are no answers. A
program that a kubeconfig names is run, which is why a kubeconfig comes from the command line or the environment alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import aiohttp
import anyio
import anyio.to_thread
import msgspec
import yaml

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.connection import Answer, Connection

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

__all__ = ("APPLY", "FIELD_MANAGER", "MERGE", "Administrator", "open_administrator")

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
FIELD_MANAGER = "ocg-stand"  #: under which an installation applies; a gym's actions have another
_CALL_SECONDS = 60.0
_AUTHENTICATION = ["BearerToken"]
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Administrator(Connection):
    """To the API server of a cluster, with the rights of a kubeconfig's user."""

    def __init__(self, endpoints: Endpoints, api: ApiClient) -> None:
        super().__init__(endpoints)
        self._api = api

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def kubernetes(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Ask the Kubernetes API; `path` has no leading slash."""
        try:
            response = await self._api.call_api(
                f"/{path}",
                method,
                query_params=dict(query or {}),
                header_params={"Content-Type": content_type},
                body=body,
                auth_settings=_AUTHENTICATION,
                _preload_content=False,
                _request_timeout=_CALL_SECONDS,
            )
            async with response:
                return Answer(
                    status=response.status, body=_decoded(await response.read()), date=response.headers.get("Date", "")
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Answer(error=str(error) or type(error).__name__)

    async def apply(self, path: str, document: Mapping[str, Any]) -> Answer:
        """Make an object what a document says, whoever has said otherwise (server-side apply)."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self.kubernetes("PATCH", path, body=dict(document), query=query, content_type=APPLY)

    async def merge(self, path: str, change: Mapping[str, Any]) -> Answer:
        """Change some fields of an object."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self.kubernetes("PATCH", path, body=dict(change), query=query, content_type=MERGE)

    async def delete(self, path: str) -> Answer:
        """Delete an object and what depends on it."""
        return await self.kubernetes("DELETE", path, query={"propagationPolicy": "Background"})


@asynccontextmanager
async def open_administrator(kubeconfig: Path, *, context: str = "", namespace: str) -> AsyncIterator[Administrator]:
    """Open the API of a context's cluster (empty: the current one) for the stand in `namespace`; closed on exit.

    Raises: UsageError: the file can't be read as a kubeconfig, has no such context, or its credentials can't be had.
    """
    api_class, configuration_class, load, problem = await anyio.to_thread.run_sync(_import_library)
    configuration = configuration_class()
    configuration.disable_strict_ssl_verification = True  # Python 3.13 refuses the usual cluster CA: no key identifiers
    if not await anyio.Path(kubeconfig).is_file():
        raise UsageError(f"{kubeconfig}: is no file: name a kubeconfig by --kubeconfig or KUBECONFIG")
    try:
        await load(
            config_file=str(kubeconfig),
            context=context or None,
            client_configuration=configuration,
            persist_config=False,
        )
    except (problem, yaml.YAMLError, OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{kubeconfig}: context {context or '(the current one)'} can't be used: {error}") from error
    endpoints = Endpoints(
        kubernetes=configuration.host, namespace=namespace, prometheus="", coroot="", load_generator="", flagd=""
    )
    async with api_class(configuration) as api, Administrator(endpoints, api) as administrator:
        if urlsplit(configuration.host).hostname in _LOOPBACK:  # a proxy of the environment is for what isn't here
            given = api.rest_client.pool_manager
            api.rest_client.pool_manager = aiohttp.ClientSession(connector=given.connector, trust_env=False)
            given.detach()
        yield administrator


def _decoded(payload: bytes) -> Any:
    """Return a body as JSON says, or as text if it is none, such as a log."""
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload.decode(errors="replace")


def _import_library() -> tuple[Any, Any, Any, Any]:
    """Import late, because it takes 0.2 to 0.7 s; called in a thread, so that the event loop goes on meanwhile."""
    from kubernetes_asyncio.client import ApiClient, Configuration
    from kubernetes_asyncio.config import ConfigException, load_kube_config

    return ApiClient, Configuration, load_kube_config, ConfigException
