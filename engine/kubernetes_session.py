"""A session with the Kubernetes API: kubernetes_asyncio's configuration, authentication and transport, for whoever reads or writes there.

In: where the stand is. Out: the library's client, whose raw answers `actuators.kubernetes_client` and `collectors.kubernetes_client` read.
Each of them has a session of its own, so that watches take no connection away from calls.

The library's trap here: it takes proxies and .netrc from the environment, loopback included; these sessions don't.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio.to_thread

from otel_control_gym.engine.protocols import Endpoints

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

__all__ = ("BEARER_TOKEN", "open_api")

BEARER_TOKEN = ["BearerToken"]  #: the library's name for how calls are authenticated


def _import_library() -> tuple[Any, Any]:
    """Import late, because it takes 0.2 to 0.7 s; called in a thread, so that the event loop goes on meanwhile."""
    from kubernetes_asyncio.client import ApiClient, Configuration

    return ApiClient, Configuration


@asynccontextmanager
async def open_api(endpoints: Endpoints) -> AsyncIterator[ApiClient]:
    """Open a session with the API server of a stand, under the stand's credentials; closed on exit."""
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
        yield api
