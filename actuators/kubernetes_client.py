"""The Kubernetes API for procedures: kubernetes_asyncio's transport, msgspec's decoding.

In: a method, a path, a body. Out: the answer as a struct, or one of `transport`'s errors. `kubernetes` and `chaos` are next.

The library's traps, and what is done about them: its models take three hundred times as long as msgspec (raw answers only); it
has no time-out (one per call); it guesses a patch's type from the body (the caller names it). It repeats nothing, which is as it
should be: retries are the life cycle's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from otel_control_gym.actuators.transport import CALL_SECONDS, decoded, receive
from otel_control_gym.actuators.writes import WriteBook
from otel_control_gym.engine.events import InverseCall
from otel_control_gym.engine.kubernetes_session import BEARER_TOKEN, open_api
from otel_control_gym.engine.protocols import Endpoints

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

__all__ = ("FIELD_MANAGER", "JSON_PATCH", "MERGE", "STRATEGIC", "KubernetesClient", "open_kubernetes")

FIELD_MANAGER = "otel-control-gym"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"

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
            auth_settings=BEARER_TOKEN,
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


@asynccontextmanager
async def open_kubernetes(endpoints: Endpoints) -> AsyncIterator[KubernetesClient]:
    """Open the client that all procedures share; closed on exit."""
    async with open_api(endpoints) as api:
        yield KubernetesClient(api)
