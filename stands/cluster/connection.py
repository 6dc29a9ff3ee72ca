"""Questions to a cluster whose answers are looked at, whatever they are: a doctor wants to know *how* something fails.

In: a method and a path of the Kubernetes API, or of a service of the stand. Out: an `Answer`, always: a refusal is one, and so is none.

Services of the stand are reached at the URL that was given for them, or else through the API server's proxy
(`services/NAME:PORT/proxy`), which needs no way into the cluster but the one that kubectl has. Credentials go to the API server alone.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp
import anyio
import msgspec

from otel_control_gym.engine.protocols import Endpoints

__all__ = ("Answer", "Connection")

_TIMEOUT = aiohttp.ClientTimeout(total=15.0)
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

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self._session: aiohttp.ClientSession  # to services at their URLs
        self._api: aiohttp.ClientSession  # to the API server

    async def __aenter__(self) -> Connection:
        self._session = aiohttp.ClientSession(trust_env=False)
        credentials = self.endpoints.kubernetes_credentials
        self._api = self._with_token() if credentials is None else credentials.session()
        return self

    def _with_token(self) -> aiohttp.ClientSession:
        tls: ssl.SSLContext | bool = True
        if self.endpoints.kubernetes_ca_file:
            tls = ssl.create_default_context(cafile=self.endpoints.kubernetes_ca_file)
            tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the usual cluster CA has no key identifiers
        token = self.endpoints.kubernetes_token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), headers=headers, trust_env=False)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._api.close()

    async def kubernetes(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask the Kubernetes API; `path` has no leading slash."""
        return await self._ask(self._api, method, f"{self.endpoints.kubernetes}/{path}", body, query)

    async def service(
        self, url: str, service: str, path: str, *, namespace: str = "", query: Mapping[str, str] | None = None
    ) -> Answer:
        """Read from a service at its URL; empty: `service` (`NAME:PORT`) by the API server's proxy (`namespace`: the stand's)."""
        if url:
            return await self._ask(self._session, "GET", f"{url}/{path}", None, query)
        place = f"api/v1/namespaces/{namespace or self.endpoints.namespace}/services/{service}/proxy/{path}"
        return await self.kubernetes("GET", place, query=query)

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, url: str, body: Any, query: Mapping[str, str] | None
    ) -> Answer:
        """Ask; a server that is busy is asked again, when it says so."""
        for patience in (*_PATIENCE, None):
            try:
                async with session.request(
                    method, url, json=body, params=query, timeout=_TIMEOUT, allow_redirects=False
                ) as response:
                    payload, headers = await response.read(), response.headers
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                return Answer(error=str(error) or type(error).__name__)
            after = headers.get("Retry-After", "")
            if response.status != _BUSY or patience is None:
                break
            await anyio.sleep(min(_LONGEST, float(after)) if after.isdigit() else patience)
        return Answer(status=response.status, body=_decoded(payload), date=headers.get("Date", ""))


def _decoded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload.decode(errors="replace")
