"""Questions to a cluster whose answers are looked at, whatever they are: a doctor wants to know *how* something fails.

In: a method and a path of the Kubernetes API, or of a service of the stand. Out: an `Answer`, always: a refusal is one, and so is none.

Services of the stand are reached at the URL that was given for them, or else through the API server's proxy
(`services/NAME:PORT/proxy`), which needs no way into the cluster but the one that kubectl has.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import aiohttp
import anyio
import msgspec

from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.service_sessions import service_session

__all__ = ("JSON_PATCH", "MERGE_PATCH", "STRATEGIC_PATCH", "Answer", "Connection")

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_BUSY = 429  #: nothing was done: the same again, later
_PATIENCE = (0.5, 1.0, 2.0, 4.0)  #: seconds until a busy server is asked again, unless it names them itself
_LONGEST = 15.0  #: seconds that a server may make us wait at a time
_SHOWN = 200  #: characters of an answer that isn't JSON


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int = 0  #: of HTTP; 0: nothing came
    body: Any = None  #: decoded JSON, or text
    date: str = ""  #: the server's Date header
    error: str = ""  #: why nothing came

    @property
    def ok(self) -> bool:
        """Return whether the server did what was asked."""
        return 200 <= self.status < 300

    @property
    def problem(self) -> str:
        """Return what is wrong, in a few words; empty: nothing."""
        if self.ok:
            return ""
        if not self.status:
            return f"no answer ({self.error})"
        message = self.body.get("message", "") if isinstance(self.body, dict) else str(self.body or "")[:_SHOWN].strip()
        return f"HTTP {self.status}" + (f": {message}" if message else "")

    def find(self, *keys: str) -> Any:
        """Return what lies under keys; None: nothing."""
        found = self.body
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def text(self, *keys: str) -> str:
        """Return the text under keys; empty: there is none."""
        found = self.find(*keys)
        return found if isinstance(found, str) else ""

    @property
    def items(self) -> list[dict[str, Any]]:
        """Return the objects of a list; none, if it isn't one."""
        found = self.find("items")
        return found if isinstance(found, list) else []


class Connection:
    """To the API server and the services of one stand; open while it is entered."""

    answer_seconds = 15.0  #: that an answer may take

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self._stack = AsyncExitStack()
        self._within: aiohttp.ClientSession  # to the API server, and to what is behind its proxy
        self._outside: aiohttp.ClientSession  # to any other address

    async def __aenter__(self) -> Self:
        to_server = service_session(self.endpoints, f"{self.endpoints.kubernetes}/", self.answer_seconds)
        self._within = await self._stack.enter_async_context(to_server)
        self._outside = await self._stack.enter_async_context(service_session(self.endpoints, "", self.answer_seconds))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

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
        url, headers = f"{self.endpoints.kubernetes}/{path}", {"Content-Type": content_type}
        return await self._ask(method, url, query, headers, None if body is None else msgspec.json.encode(body))

    async def service(
        self, url: str, service: str, path: str, *, namespace: str = "", query: Mapping[str, str] | None = None
    ) -> Answer:
        """Read from a service at its URL; empty: `service` (`NAME:PORT`) by the API server's proxy (`namespace`: the stand's)."""
        if url:
            return await self._ask("GET", f"{url}/{path}", query, {}, None)
        place = f"api/v1/namespaces/{namespace or self.endpoints.namespace}/services/{service}/proxy/{path}"
        return await self.kubernetes("GET", place, query=query)

    async def post(self, url: str, *, form: Mapping[str, str] | None = None, body: Any = None) -> Answer:
        """Post a form, JSON, or a Protobuf message that is serialised already, to a service."""
        if form is not None:
            return await self._ask("POST", url, None, {}, form)
        if isinstance(body, bytes):
            return await self._ask("POST", url, None, {"Content-Type": "application/x-protobuf"}, body)
        return await self._ask("POST", url, None, {"Content-Type": "application/json"}, msgspec.json.encode(body))

    async def _ask(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: bytes | Mapping[str, str] | None,
    ) -> Answer:
        """Ask; a server that is busy is asked again, when it says so."""
        session = self._within if url.startswith(f"{self.endpoints.kubernetes}/") else self._outside
        for patience in (*_PATIENCE, None):
            try:
                async with session.request(
                    method, url, data=body, params=query, headers=headers, allow_redirects=False
                ) as response:
                    payload, told = await response.read(), response.headers
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                return Answer(error=str(error) or type(error).__name__)
            after = told.get("Retry-After", "")
            if response.status != _BUSY or patience is None:
                break
            await anyio.sleep(min(_LONGEST, float(after)) if after.isdigit() else patience)
        return Answer(status=response.status, body=_decoded(payload), date=told.get("Date", ""))


def _decoded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload.decode(errors="replace")
