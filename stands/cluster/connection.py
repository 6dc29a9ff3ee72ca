"""Questions to a cluster whose answers are looked at, whatever they are: a doctor wants to know *how* something fails.

In: a method and a path of the Kubernetes API, or of a service of the stand. Out: an `Answer`, always: a refusal is one, and so is none.

Services of the stand are reached at the URL that was given for them, or else through the API server's proxy
(`services/NAME:PORT/proxy`), which needs no way into the cluster but the one that kubectl has.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp
import msgspec

from otel_control_gym.engine.protocols import Endpoints

__all__ = ("Answer", "Connection")

_TIMEOUT = aiohttp.ClientTimeout(total=15.0)
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

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self._session: aiohttp.ClientSession
        self._tls: ssl.SSLContext | bool = True
        if endpoints.kubernetes_ca_file:
            self._tls = ssl.create_default_context(cafile=endpoints.kubernetes_ca_file)
            self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the usual cluster CA has no key identifiers

    async def __aenter__(self) -> Connection:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def kubernetes(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask the Kubernetes API; `path` has no leading slash."""
        token = self.endpoints.kubernetes_token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await self._ask(method, f"{self.endpoints.kubernetes}/{path}", body, query, headers, self._tls)

    async def service(
        self, url: str, service: str, path: str, *, namespace: str = "", query: Mapping[str, str] | None = None
    ) -> Answer:
        """Read from a service at its URL; empty: `service` (`NAME:PORT`) by the API server's proxy (`namespace`: the stand's)."""
        if url:
            return await self._ask("GET", f"{url}/{path}", None, query, {}, True)
        place = f"api/v1/namespaces/{namespace or self.endpoints.namespace}/services/{service}/proxy/{path}"
        return await self.kubernetes("GET", place, query=query)

    async def _ask(
        self,
        method: str,
        url: str,
        body: Any,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | bool,
    ) -> Answer:
        try:
            async with self._session.request(
                method, url, json=body, params=query, headers=headers, ssl=tls, allow_redirects=False
            ) as response:
                return Answer(
                    status=response.status, body=_decoded(await response.read()), date=response.headers.get("Date", "")
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Answer(error=str(error) or type(error).__name__)


def _decoded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload.decode(errors="replace")
