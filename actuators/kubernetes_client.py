"""The Kubernetes API for procedures: kubernetes_asyncio's configuration, authentication and transport, msgspec's decoding.

In: a method, a path, a body. Out: the answer as a struct, or one of `transport`'s errors. `kubernetes` and `chaos` are next.

The library's traps, and what is done about them: its models take three hundred times as long as msgspec (raw answers only); it
has no time-out (one per call); it guesses a patch's type from the body (the caller names it); it takes proxies and .netrc from the
environment, loopback included (a session that doesn't). It repeats nothing, which is as it should be: retries are the life cycle's.
The module that reads (`collectors.kubernetes_client`) has a client of its own, so that watches take no connection away from calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import anyio.to_thread

from otel_control_gym.actuators.transport import CALL_SECONDS, decoded, receive
from otel_control_gym.actuators.writes import WriteBook
from otel_control_gym.engine.events import InverseCall
from otel_control_gym.engine.protocols import Endpoints

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

__all__ = ("FIELD_MANAGER", "JSON_PATCH", "MERGE", "STRATEGIC", "KubernetesClient", "open_kubernetes")

FIELD_MANAGER = "otel-control-gym"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"

_AUTHENTICATION = ["BearerToken"]

T = TypeVar("T")


class KubernetesClient:
    """Calls to the Kubernetes API; `book` takes note of what is read and written."""

    def __init__(self, api: ApiClient, book: WriteBook | None = None) -> None:
        self._api = api
        self._book = book

    def noting(self, book: WriteBook) -> KubernetesClient:
        """Return a client of the same session whose writes are noted."""
        return KubernetesClient(self._api, book)

    async def call(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        body: Any = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> T:
        """Call the Kubernetes API and return its answer as a struct; `path` has no leading slash.

        Raises: CallError: one of its three kinds.
        """
        payload = await self._payload(method, path, body, content_type, query)
        if self._book is not None and method == "GET":
            self._book.read(payload)
        return decoded(f"{method} {path}", payload, answer)

    async def _payload(
        self, method: str, path: str, body: Any, content_type: str, query: Mapping[str, str] | None
    ) -> bytes:
        call = self._api.call_api(
            f"/{path}",
            method,
            query_params=query,
            header_params={"Content-Type": content_type},
            body=body,
            auth_settings=_AUTHENTICATION,
            _preload_content=False,
            _request_timeout=CALL_SECONDS,
        )
        return await receive(f"{method} {path}", call)

    async def write(self, call: InverseCall, answer: type[T], *, dry_run: bool = False) -> T:
        """Make a change under our name; `dry_run`: have it checked without making it.

        Raises: CallError: one of its three kinds.
        """
        query = {} if call.method == "DELETE" else {"fieldManager": FIELD_MANAGER}
        query |= {"dryRun": "All"} if dry_run else {}
        payload = await self._payload(call.method, call.path, call.body, call.content_type, query)
        if self._book is not None and not dry_run:
            self._book.wrote(call.method, call.path, payload)
        return decoded(f"{call.method} {call.path}", payload, answer)


def _import_library() -> tuple[Any, Any]:
    """Import late, because it takes 0.2 to 0.7 s; called in a thread, so that the event loop goes on meanwhile."""
    from kubernetes_asyncio.client import ApiClient, Configuration

    return ApiClient, Configuration


@asynccontextmanager
async def open_kubernetes(endpoints: Endpoints) -> AsyncIterator[KubernetesClient]:
    """Open the client that all procedures share; closed on exit."""
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
        yield KubernetesClient(api)
