"""Reads of the Kubernetes API: kubernetes_asyncio's transport, raw answers.

In: a path and a query. Out: an answer whose body is still to be read, by `watch`, which decodes it with msgspec.

The library's traps, and what is done about them: its models take three hundred times as long as msgspec, and its watch a second
client each (raw answers, one client for all watches); it has no time-out (one on silence, per call). Each watch occupies one of the
client's connections for good, of which there are a hundred.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from otel_control_gym.engine.kubernetes_session import BEARER_TOKEN, open_api
from otel_control_gym.engine.protocols import Endpoints

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

__all__ = ("KubernetesReader", "open_kubernetes")

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
            auth_settings=BEARER_TOKEN,
            _preload_content=False,
            _request_timeout=_TIMEOUT,
        )
        return response


@asynccontextmanager
async def open_kubernetes(endpoints: Endpoints) -> AsyncIterator[KubernetesReader]:
    """Open the client that all watches share; closed on exit."""
    async with open_api(endpoints) as api:
        yield KubernetesReader(api)
