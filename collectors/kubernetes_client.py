"""Reads of the Kubernetes API: kubernetes_asyncio's configuration, authentication and transport, raw answers.

In: a path and a query. Out: an answer whose body is still to be read, by `watch`, which decodes it with msgspec.

The library's traps, and what is done about them: its models take three hundred times as long as msgspec, and its watch a second
client each (raw answers, one client for all watches); it has no time-out (one on silence, per call); it takes proxies and .netrc from
the environment, loopback included (a session that doesn't). Each watch occupies one of the client's connections for good, of which
there are a hundred.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio.to_thread

from otel_control_gym.engine.protocols import Endpoints

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

__all__ = ("KubernetesReader", "open_kubernetes")

_AUTHENTICATION = ["BearerToken"]
_SILENCE_SECONDS = 330.0  #: a watch that is silent for longer is taken for dead, and goes on where it was
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30.0, sock_read=_SILENCE_SECONDS)


class KubernetesReader:
    """Reads of the Kubernetes API."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> aiohttp.ClientResponse:
        """Return the answer, whatever its status, its body unread: leave it by `async with`. `path` has no leading slash.

        Raises: aiohttp.ClientError, OSError, TimeoutError: there is no answer.
        """
        response: aiohttp.ClientResponse = await self._api.call_api(
            f"/{path}",
            "GET",
            query_params=query,
            auth_settings=_AUTHENTICATION,
            _preload_content=False,
            _request_timeout=_TIMEOUT,
        )
        return response


def _import_library() -> tuple[Any, Any]:
    """Import late, because it takes 0.2 to 0.7 s; called in a thread, so that the event loop goes on meanwhile."""
    from kubernetes_asyncio.client import ApiClient, Configuration

    return ApiClient, Configuration


@asynccontextmanager
async def open_kubernetes(endpoints: Endpoints) -> AsyncIterator[KubernetesReader]:
    """Open the client that all watches share; closed on exit."""
    api_client, configuration_class = await anyio.to_thread.run_sync(_import_library)
    configuration = configuration_class(host=endpoints.kubernetes, ssl_ca_cert=endpoints.kubernetes_ca_file or None)
    configuration.disable_strict_ssl_verification = True  # Python 3.13 refuses the usual cluster CA: no key identifiers
    credentials = endpoints.kubernetes_credentials
    if endpoints.kubernetes_token and credentials is None:
        configuration.api_key = {"BearerToken": endpoints.kubernetes_token}
        configuration.api_key_prefix = {"BearerToken": "Bearer"}
    async with api_client(configuration) as api:
        given = api.rest_client.pool_manager
        if credentials is None:
            # The library's connector, with its TLS and pool; but calls go where the stand says, not through a proxy of the environment.
            api.rest_client.pool_manager = aiohttp.ClientSession(connector=given.connector, trust_env=False)
            given.detach()
        else:
            await given.close()
            api.rest_client.pool_manager = credentials.session()
        yield KubernetesReader(api)
